"""``./dev beats``: what becomes of periodic tasks when the beat that fires them dies, here and with RedBeat, in one run.

Each fault has a stage of its own: a new broker, one worker, a beat that fires ten entries of 1 to 2 s, and one that stands
by. What was fired is what the worker ran, by its own account.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from kafka_exec.broker import BrokerError
from tests.bench.servers import NoPeer, Peer, kafka_exec, process, redis

ROOT = Path(__file__).resolve().parents[2]
APP = "tests.bench.beats_app"

#: The entries' periods, seconds.
PERIODS = {f"e{number}": 1.0 + 0.25 * (number % 5) for number in range(10)}

#: What the first fires of a stage may take, seconds.
START_TIMEOUT = 60.0

#: How long all is well before the fault and after it, seconds.
CALM = 10.0

#: What the worker may take for what is under way at the end, seconds.
LEFTOVERS = 2.0


@dataclass(frozen=True)
class System:
    """A scheduler with its broker. ``conf``: the application's settings; ``entry``: what each entry says beside."""

    name: str
    scheduler: str
    broker: Callable[[], AbstractContextManager[Peer]]
    conf: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """The application's settings, those of the entries among them."""
        entries = {
            name: {"task": "fire", "schedule": period, "args": [name], **self.entry} for name, period in PERIODS.items()
        }
        # Without a result back end: no entry of Celery's own.
        return {**self.conf, "beat_schedule": entries, "result_expires": None}


OURS = "kafka-exec"
REDBEAT = "redbeat.RedBeatScheduler"

SYSTEMS = {
    system.name: system
    for system in (
        System(OURS, "kafka-exec", kafka_exec, entry={"catch_up": "all"}),
        # Its documentation has the lock last five times as long as a loop: with the shortest loop that is a whole number.
        System("redbeat-tuned", REDBEAT, redis, conf={"beat_max_loop_interval": 1, "redbeat_lock_timeout": 5}),
        System("redbeat", REDBEAT, redis),
    )
}

FAULTS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGSTOP": signal.SIGSTOP}


class Fire(NamedTuple):
    """A run of an entry's task: by which process it was sent, for which time, and when it ran, epoch seconds."""

    entry: str
    by: int
    slot: float
    at: float


@dataclass
class Figures:
    """The figures of one fault.

    Attributes:
        failover: seconds until another beat had fired every entry; None: not within the patience.
        fired: the number of all runs.
        twice: runs of an entry for the same time: less than half a period apart.
        missed: periods that went by without a run, up to the end of the stage.
        continued: what a paused beat did when it was continued.
    """

    fault: str
    failover: float | None
    fired: int
    twice: int
    missed: int
    continued: str = ""


class Stage:
    """A worker and beats of one system. Leaving it ends them."""

    def __init__(self, system: System, url: str, folder: Path) -> None:
        self._system = system
        self._folder = folder
        self._fires = folder / "fires"
        self._environment = {
            "BEATS_URL": url,
            "BEATS_CONF": json.dumps(system.settings()),
            "BEATS_FIRES": str(self._fires),
        }

    def worker(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Starts the worker."""
        return self._start("worker", "--pool", "solo", "--without-gossip", "--without-mingle")

    def beat(self, name: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Starts a beat."""
        return self._start(name, "--scheduler", self._system.scheduler, "--pidfile", "", command="beat")

    def _start(self, name: str, *options: str, command: str = "worker") -> AbstractContextManager[Any]:
        arguments = [sys.executable, "-m", "celery", "-A", APP, command, "--loglevel", "INFO", *options]
        return process(arguments, self._folder / f"{name}.log", self._environment, cwd=ROOT)

    def said(self, name: str, text: str) -> bool:
        """True if a process has logged a text."""
        return text in (self._folder / f"{name}.log").read_text()

    def fires(self) -> list[Fire]:
        """All runs so far. A scheduler that knows no slots has fired for the time at which it did."""
        lines = self._fires.read_text().rpartition("\n")[0].splitlines() if self._fires.exists() else []
        told = map(json.loads, lines)
        return [Fire(one["entry"], one["by"], one["slot"] or one["at"], one["at"]) for one in told]

    def all_fired(self, by: int, since: float = 0.0) -> list[float]:
        """The time at which a process first fired each entry after ``since``; empty: it has not fired all of them."""
        first = {fire.entry: fire.at for fire in reversed(self.fires()) if fire.by == by and fire.at > since}
        return list(first.values()) if first.keys() == PERIODS.keys() else []

    def until(self, condition: Callable[[], Any], timeout: float, what: str = "") -> Any:
        """Waits for something; what it was. With ``what`` it must come, without it may be false at the end."""
        deadline = time.monotonic() + timeout
        while not (found := condition()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if what and not found:
            logs = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in self._folder.glob("*.log"))
            raise RuntimeError(f"{what}: not within {timeout:.0f} s\n{logs}")
        return found


def take(system: System, fault: str, patience: float) -> Figures:
    """Sets a stage, has the active beat suffer a fault, and counts."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beats-")))
        stage = Stage(system, stack.enter_context(system.broker()).url, folder)
        stack.enter_context(stage.worker())
        stage.until(lambda: stage.said("worker", " ready."), START_TIMEOUT, "the worker is ready")
        with ExitStack() as beats:
            active = beats.enter_context(stage.beat("active"))
            stage.until(lambda: stage.all_fired(active.pid), START_TIMEOUT, "all entries are fired")
            other = beats.enter_context(stage.beat("other"))
            stage.until(lambda: stage.said("other", "beat: Starting..."), START_TIMEOUT, "another beat stands by")
            time.sleep(CALM)
            began = time.time()
            # One that is killed is not waited for: who looks for it by its process id finds it, as if on another machine.
            active.send_signal(FAULTS[fault])
            times = stage.until(lambda: stage.all_fired(other.pid, began), patience)
            continued = time.time()
            active.send_signal(signal.SIGCONT)
            time.sleep(CALM)
            end = time.time()
            again = sum(fire.by == active.pid and fire.at > continued for fire in stage.fires())
            code = active.poll()
        time.sleep(LEFTOVERS)
        fires = [fire for fire in stage.fires() if fire.slot <= end]
    fate = f"lives, fired {again}" if code is None else f"ended ({code})"
    return Figures(
        fault,
        max(times) - began if times else None,
        len(fires),
        *count(fires, end),
        fate if fault == "SIGSTOP" else "",
    )


def count(fires: list[Fire], end: float) -> tuple[int, int]:
    """The number of runs for a time that had a run before, and of periods that went by without a run."""
    twice = missed = 0
    for entry, period in PERIODS.items():
        slots = sorted(fire.slot for fire in fires if fire.entry == entry)
        twice += sum(after - before < period / 2 for before, after in pairwise(slots))
        missed += sum(max(0, round((after - before) / period) - 1) for before, after in pairwise([*slots, end]))
    return twice, missed


def table(taken: Mapping[str, list[Figures]], patience: float) -> str:
    """A column for each system: shortest and longest times, sums, and what it was set to."""
    rows = [("", list(taken))]
    for fault in FAULTS:
        found = [[one.failover for one in figures if one.fault == fault] for figures in taken.values()]
        rows.append((f"failover after {fault}, s", [_seconds(times, patience) for times in found]))
    fates = [dict.fromkeys(one.continued for one in figures if one.continued) for figures in taken.values()]
    rows.append(("the paused beat, continued", [" / ".join(fate) for fate in fates]))
    for name in ("fired", "twice", "missed"):
        rows.append((name, [f"{sum(getattr(one, name) for one in figures):,}" for figures in taken.values()]))
    notes = [
        "failover: until another beat had fired every entry, their periods (1 to 2 s) included",
        "missed: periods of an entry without a run, from its first run to the end of the stage",
        f"RedBeat {version('celery-redbeat')} by default: beat_max_loop_interval = 300, redbeat_lock_timeout = 1500",
        *(f"{name}: {_told(SYSTEMS[name])}" for name in taken),
    ]
    return "\n".join(["", *(f"{row:28}" + "".join(f"{cell:>22}" for cell in cells) for row, cells in rows), "", *notes])


def _seconds(times: list[float | None], patience: float) -> str:
    known = sorted(math.inf if one is None else one for one in times)
    texts = dict.fromkeys(f"> {patience:.0f}" if one == math.inf else f"{one:.1f}" for one in known)
    return " to ".join(list(texts)[:: max(1, len(texts) - 1)]) or "-"


def _told(system: System) -> str:
    told = {**system.conf, **{f"of each entry: {name}": value for name, value in system.entry.items()}}
    return ", ".join(f"{name} = {value}" for name, value in told.items()) or "its defaults"


def main(argv: list[str]) -> int:
    """Returns 1 when ours could not be measured; a system that is missing or fails is named and left out."""
    options = _options(argv)
    # Leaves the blocks below, and with them ends all processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    taken: dict[str, list[Figures]] = {}
    for number in range(options.rounds):
        for name in options.systems:
            for fault in FAULTS:
                try:
                    figures = take(SYSTEMS[name], fault, options.patience)
                except (BrokerError, NoPeer, RuntimeError, OSError) as error:
                    print(f"beats: {name}, {fault}: {error}", file=sys.stderr, flush=True)
                    continue
                taken.setdefault(name, []).append(figures)
                told = _seconds([figures.failover], options.patience)
                print(
                    f"round {number + 1}/{options.rounds}  {name:14} {fault:8} failover {told} s, {figures.fired} fired, "
                    f"{figures.twice} twice, {figures.missed} missed",
                    flush=True,
                )
    print(table(taken, options.patience))
    if options.json:
        settings = {name: SYSTEMS[name].settings() for name in taken}
        figures_of = {name: [asdict(one) for one in figures] for name, figures in taken.items()}
        options.json.write_text(json.dumps({"settings": settings, "taken": figures_of}, indent=1))
    return int(OURS in options.systems and OURS not in taken)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev beats", description=__doc__)
    parser.add_argument(
        "--systems", type=_names, default=list(SYSTEMS), help=f"comma-separated, of {','.join(SYSTEMS)}"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--patience", type=float, default=60.0, help="how long a failover is waited for, seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round")
    return parser.parse_args(argv)


def _names(text: str) -> list[str]:
    for name in text.split(","):
        if name not in SYSTEMS:
            raise argparse.ArgumentTypeError(f"there is no system {name!r}; known: {', '.join(SYSTEMS)}")
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
