"""One round of measurements against one broker."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.bench import board, ceiling
from tests.bench.servers import Peer, process

ROOT = Path(__file__).resolve().parents[2]
CONCURRENCY = 2
PREFETCH = 128
STALLED = 60.0
SETTLE = 3.0
LEFTOVERS = 0.3


@dataclass(frozen=True)
class Sizes:
    """The number of tasks of each measurement."""

    backlog: int = 10_000
    single: int = 2_000
    results: int = 600
    latency: int = 400
    idle_seconds: float = 5.0


QUICK = Sizes(backlog=2_000, single=300, results=100, latency=100, idle_seconds=2.0)

#: Figures of one step: rates in tasks/s, latencies in ms, `idle_cpu` in %, `idle_memory` in MB.
Figures = dict[str, "float | list[float]"]


def held(peer: Peer, sizes: Sizes) -> Figures:
    """Publishes with one producer held, then drains."""
    with _Run(peer, sizes) as run:
        return {"publish_held": run.client("held", sizes.backlog), "drain": run.drain(events=False)}


def grouped(peer: Peer, sizes: Sizes) -> Figures:
    """Publishes a group, then drains with events on."""
    with _Run(peer, sizes) as run:
        return {"publish_grouped": run.client("grouped", sizes.backlog), "drain_events": run.drain(events=True)}


def single(peer: Peer, sizes: Sizes) -> Figures:
    """Publishes one by one, each confirmed."""
    with _Run(peer, sizes) as run:
        return {"publish_single": run.client("single", sizes.single, peer.confirmed)}


def latency(peer: Peer, sizes: Sizes) -> Figures:
    """Runs tasks one at a time, then leaves the worker idle."""
    if not peer.carries_messages:
        return {}
    with _Run(peer, sizes) as run, run.worker(events=False) as worker:
        milliseconds = [1000 * seconds for seconds in run.client("latencies", sizes.latency)]
        cpu, memory = _idle(worker, sizes.idle_seconds)
        return {"latency": milliseconds, "idle_cpu": cpu, "idle_memory": memory}


def results(peer: Peer, sizes: Sizes) -> Figures:
    """Waits for the results of tasks one at a time, of groups and of chords."""
    if peer.results is None:
        return {}
    with _Run(peer, sizes, results=peer.results) as run, run.worker(events=False):
        taken = run.client("results", sizes.results)
        return {
            "roundtrip": [1000 * seconds for seconds in taken["roundtrip"]],
            "group": statistics.median(taken["group"]),
            "chord": statistics.median(taken["chord"]),
        }


def start(peer: Peer, sizes: Sizes) -> Figures:
    """Starts a worker, in a process of its own, where one was before: topics and byte code are there, as on a server."""
    if not peer.carries_messages:
        return {}
    with _Run(peer, sizes, results=peer.results) as run:
        run.start()
        return {"start": run.start()}


#: What a round consists of. Each step uses a queue that nobody has used.
STEPS = (held, grouped, single, latency, results, start)


class _Run:
    """A queue of its own with a folder for what its worker's processes report."""

    def __init__(self, peer: Peer, sizes: Sizes, results: str | None = None) -> None:
        self.peer = peer
        self.results = results
        self.backlog = sizes.backlog + 1
        self.queue = f"bench-{uuid.uuid4().hex[:8]}"
        self.scratch = tempfile.TemporaryDirectory(prefix="bench-run-")
        self.folder = Path(self.scratch.name)
        self.log = self.folder / "worker.log"

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.scratch.cleanup()

    def environment(self, options: dict[str, Any]) -> dict[str, str]:
        return {
            "BENCH_URL": self.peer.url,
            "BENCH_QUEUE": self.queue,
            "BENCH_PREFETCH_MULTIPLIER": str(PREFETCH // CONCURRENCY),
            "BENCH_TRANSPORT_OPTIONS": json.dumps(options),
            ceiling.BACKLOG: str(self.backlog),
            board.FOLDER: str(self.folder),
            **({"BENCH_RESULTS": self.results} if self.results else {}),
            **self.peer.env,
        }

    def client(self, mode: str, count: int, options: dict[str, Any] | None = None) -> Any:
        """Runs the publishing side and returns what it measured."""
        command = [sys.executable, "-m", "tests.bench.client", mode, str(count)]
        environment = {**os.environ, **self.environment(options or {})}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{mode}: {done.stderr[-2000:]}{self._worker_log()}")
        return json.loads(done.stdout.splitlines()[-1])

    @contextlib.contextmanager
    def worker(self, events: bool) -> Iterator[psutil.Process]:
        """A Celery worker on the queue."""
        lean = ["--without-gossip", "--without-mingle", *(["--task-events"] if events else [])]
        with self._worker("--concurrency", str(CONCURRENCY), *lean) as started:
            yield started

    @contextlib.contextmanager
    def _worker(self, *options: str, **environment: str) -> Iterator[psutil.Process]:
        common = ["--pool", "prefork", "--loglevel", "WARNING"]
        command = [sys.executable, "-m", "celery", "-A", "tests.bench.app", "worker", *common, *options]
        with process(command, self.log, {**self.environment({}), **environment}, cwd=ROOT) as started:
            yield psutil.Process(started.pid)

    def start(self) -> float:
        """The seconds from the start of a worker's process until Celery calls it ready."""
        # Where Python is told to keep no byte code, most of a start is compiling.
        bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode")}
        began = time.time()
        with self._worker("--concurrency", "1", "--without-mingle", **bytecode) as started:
            path = self.folder / f"{started.pid}.ready"
            while not path.exists():
                if time.time() - began > STALLED:
                    raise RuntimeError(f"not ready{self._worker_log()}")
                time.sleep(0.005)
            return float(path.read_text()) - began

    def drain(self, events: bool) -> float:
        """The rate at which a worker started now ends the tasks that wait, from the first end to the last."""
        reader = board.Reader(self.folder)
        with self.worker(events):
            ended, changed = 0, time.monotonic()
            while ended < self.backlog:
                time.sleep(0.05)
                reader.look_for_processes()
                before, ended = ended, sum(row.ended for row in reader.rows())
                changed = time.monotonic() if ended != before else changed
                if time.monotonic() - changed > STALLED:
                    raise RuntimeError(f"stalled at {ended} of {self.backlog} tasks{self._worker_log()}")
            time.sleep(LEFTOVERS)
            rows = [row for row in reader.rows() if row.ended]
        ended = sum(row.ended for row in rows)
        if ended != self.backlog:
            raise RuntimeError(f"{ended} tasks ended, {self.backlog} were published: some ran twice")
        return (ended - 1) / (max(row.last_end for row in rows) - min(row.first_end for row in rows))

    def _worker_log(self) -> str:
        return f"\nworker: {self.log.read_text()[-2000:]}" if self.log.exists() else ""


def _idle(worker: psutil.Process, seconds: float) -> tuple[float, float]:
    """The load of an idle worker with its processes: percent of one core, and MB with shared pages split."""
    time.sleep(SETTLE)
    family = [worker, *worker.children(recursive=True)]
    before = sum(_cpu_seconds(member) for member in family)
    time.sleep(seconds)
    used = sum(_cpu_seconds(member) for member in family) - before
    return 100 * used / seconds, sum(_memory(member) for member in family) / 1e6


def _cpu_seconds(member: psutil.Process) -> float:
    times = member.cpu_times()
    return float(times.user + times.system)


def _memory(member: psutil.Process) -> int:
    info = member.memory_full_info()
    return int(getattr(info, "pss", info.uss))


def summary(taken: list[Figures]) -> dict[str, float]:
    """Medians over the rounds; latencies of all rounds taken together."""
    medians: dict[str, float] = {}
    for name in dict.fromkeys(name for figures in taken for name in figures):
        values = [figures[name] for figures in taken if name in figures]
        if name in ("latency", "roundtrip"):
            cuts = statistics.quantiles([value for one in values for value in one], n=100)
            medians[f"{name}_p50"], medians[f"{name}_p99"] = cuts[49], cuts[98]
        else:
            medians[name] = statistics.median(values)
    return medians
