"""The simulated world of beats: nodes that share periodic entries, and are killed, stopped, cut off and taken for dead."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest.mock import patch

from kafka_exec.core.beat.agenda import Plan
from kafka_exec.core.beat.schedule import CatchUp, Grid, Overlap, Policy
from kafka_exec.kafka.beat import exclusive, synclog
from kafka_exec.kafka.client import loop
from kafka_exec.kafka.nodes import node
from tests.simulation.beats import fibers
from tests.simulation.beats.judge import BeatJudge
from tests.simulation.beats.process import NAMES, Process
from tests.simulation.beats.site import Fetcher, Transactor
from tests.simulation.clock import Scheduler
from tests.simulation.judge import Violation
from tests.simulation.plane.brokers import Brokers

#: The faults, each with the mean time between two, seconds.
FAULTS = {
    "pause": 8.0,
    "cut": 10.0,
    "mute": 10.0,
    "kill": 10.0,
    "leave": 15.0,
    "clock": 5.0,
    "change": 4.0,
    "trouble": 6.0,
}

#: After the faults no so many seconds pass until each entry is fired a few times.
_PATIENCE = 60.0

#: When no fault comes, all is settled after so many seconds: all heartbeats are heard, and all transactions have ended.
_SETTLED = 12.0

#: The firings of each entry when the faults have ceased.
_FIRINGS = 3

#: The share of commits whose answer is lost.
_UNANSWERED = 0.02

#: A process that is shut down has ended after so many seconds, or is killed.
_LEAVING = 4.0


@dataclass(frozen=True)
class BeatPlan:
    """What one simulation is made of."""

    seed: int
    processes: int = 2
    seconds: float = 30.0
    entries: int = 3
    faults: tuple[str, ...] = tuple(FAULTS)

    @classmethod
    def of(cls, seed: int, processes: int | None = None) -> BeatPlan:
        rng = random.Random(f"beat plan {seed}")
        return cls(
            seed,
            processes or rng.choice((1, 2, 3)),
            entries=rng.choice((1, 2, 4)),
            faults=tuple(each for each in FAULTS if rng.random() < 0.4),
        )

    def world(self, *, keeps_history: bool) -> BeatWorld:
        return BeatWorld(self, keeps_history=keeps_history)

    def smaller(self) -> Iterator[BeatPlan]:
        """Plans with less in them."""
        for fault in self.faults:
            yield replace(self, faults=tuple(each for each in self.faults if each != fault))
        for name in ("entries", "processes"):
            if getattr(self, name) > 1:
                yield replace(self, **{name: getattr(self, name) - 1})


class BeatWorld(Scheduler):
    """One simulation.

    Attributes:
        plans: the entries.
        version: a number that changes with them.
        changed: the entries that were paused, or resumed.
        processes: those that live, and are not being shut down.
    """

    def __init__(self, plan: BeatPlan, *, keeps_history: bool = False) -> None:
        super().__init__(f"beats {plan.seed}", keeps_history=keeps_history)
        self.plan = plan
        self.clock = fibers.FiberClock()
        self.brokers: Brokers = Brokers(self)  # type: ignore[arg-type]
        self.faults, self.happened = self, 0
        self.plans = {f"e{number}": self._entry() for number in range(plan.entries)}
        self.judge = BeatJudge(self)
        self.version = 0
        self.changed: set[str] = set()
        self.processes: list[Process] = []
        self._all: list[Process] = []
        self._trouble_until = 0.0
        self._lossy = {entry for entry in self.plans if self.rng.random() < 0.2}
        self._are_over = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """Runs the world to its end.

        Raises:
            Violation: a rule is broken.
        """
        with _simulated(self):
            try:
                self._run()
            finally:
                for process in self._all:
                    process.end()

    def _run(self) -> None:
        for _ in range(self.plan.processes):
            self._start()
        for thread in (self._minds(), *map(self._faults, self.plan.faults)):
            self.spawn(thread)
        self.go(until=self.plan.seconds)
        self._are_over = True
        self.note("world", "faults cease")
        self._resume()
        calm = dict(self.judge.fired)
        deadline = self.now + _PATIENCE
        self.go(until=self.now + _SETTLED)
        while missing := self._missing(calm):
            if self.now > deadline:
                raise Violation("an entry is fired no more", *missing)
            self.go(until=self.now + 1.0)
        self.judge.compare()

    def _missing(self, calm: dict[str, int]) -> list[str]:
        """The entries that were not fired often enough since the faults have ceased, or not as somebody has asked."""
        return [
            entry
            for entry, plan in self.plans.items()
            if self.judge.fired[entry] - calm.get(entry, 0) < _FIRINGS
            or (
                plan.request is not None
                and not self.is_lossy(entry)
                and (entry, plan.request) not in self.judge.answered
            )
        ]

    def break_off(self, error: BaseException) -> NoReturn:
        """Ends the world with an error. The code that runs may go on from it, for it goes on from all.

        Raises:
            BaseException: the error.
        """
        self.error = self.error or error
        raise error

    # -- entries -------------------------------------------------------------------------------------------------------

    def _entry(self) -> Plan:
        """An entry with some options."""
        rng = self.rng
        on_node = rng.random() < 0.5
        overlap = rng.choice(list(Overlap)) if on_node else Overlap.QUEUE
        policy = Policy(
            catch_up=rng.choice(list(CatchUp)),
            max_executions_on_node=rng.choice((None, None, 4)),
            max_duration=rng.choice((None, 4.0)) if on_node else None,
            on_node=on_node,
            overlap=overlap,
            after_end=on_node and overlap is Overlap.QUEUE and rng.random() < 0.3,
            claim_heartbeat=rng.choice((None, 2.0)),
            takeover_wait=rng.choice((0.0, 0.0, 3.0)),
        )
        return Plan(Grid(rng.choice((0.7, 1.5, 4.0))), policy, "h")

    def is_huge(self, entry: str, slot: float) -> bool:
        """True if the task of a slot is too large for Kafka."""
        return entry in self._lossy and round(slot * 10) % 11 < 3

    def is_lossy(self, entry: str) -> bool:
        """True if some tasks of an entry are too large."""
        return entry in self._lossy

    def length_of_run(self) -> float:
        """The time that a run on a node takes if nothing stops it, seconds."""
        return self.rng.random() * (0.5 if self._are_over else self.rng.choice((0.5, 2.0, 20.0)))

    def _change(self) -> None:
        """Does what an operator does with an entry."""
        entry = self.rng.choice(list(self.plans))
        plan = self.plans[entry]
        if self.rng.random() < 0.5:
            self.plans[entry] = replace(plan, request=self.now)
        else:
            self.changed.add(entry)
            self.plans[entry] = replace(plan, paused=not plan.paused, since=self.now if plan.paused else plan.since)
        self.version += 1
        self.note("operator", "changes", entry, self.plans[entry])

    def _resume(self) -> None:
        for entry, plan in self.plans.items():
            self.plans[entry] = replace(plan, paused=False, since=self.now if plan.paused else plan.since)
        self.version += 1

    # -- processes and faults ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        process = Process(self, f"b{len(self._all)}")
        self.processes.append(process)
        self._all.append(process)

    def is_fenced(self, incarnation: str) -> bool:
        """True if another process has taken an incarnation's transactional id."""
        return self.brokers.holders(f"{NAMES.prefix}.beat.{incarnation}") > 1

    def _faults(self, fault: str) -> Iterator[float]:
        while True:
            yield self.rng.expovariate(1 / FAULTS[fault])
            if self._are_over:
                return
            process = self.rng.choice(self.processes)
            until = min(self.now + self.rng.choice((0.5, 3.0, 12.0)) * self.rng.random(), self.plan.seconds)
            self.happened += 1
            process.note(fault, f"until {until:.3f}")
            if fault in ("pause", "cut", "mute"):
                name = {"pause": "paused_until", "cut": "cut_until", "mute": "mute_until"}[fault]
                setattr(process, name, max(until, getattr(process, name)))
            elif fault == "trouble":
                self._trouble_until = until
            elif fault == "clock":
                process.wall = self.rng.choice((-3600.0, -3.0, 0.0, 3.0, 3600.0))
            elif fault == "change":
                self._change()
            else:
                self.processes.remove(process)
                if fault == "kill":
                    process.end()
                else:
                    process.leave()
                    self.spawn(self._waits_for(process))
                self._start()

    def _waits_for(self, process: Process) -> Iterator[float]:
        yield _LEAVING
        process.end()

    def stop_at_times(self, process: Process, share: float) -> None:
        """Stops a process in a share of the calls, for so long that others take it for dead."""
        if not self._are_over and "pause" in self.plan.faults and self.rng.random() < share:
            until = min(self.now + 3.0 + self.rng.random() * 7.0, self.plan.seconds)
            process.paused_until = max(until, process.paused_until)
            process.note("pause", f"until {process.paused_until:.3f}")

    def is_unanswered(self) -> bool:
        """True if the answer to a commit is lost."""
        return not self._are_over and self.rng.random() < _UNANSWERED

    def is_in_trouble(self) -> bool:
        """True if a task cannot be sent at present."""
        return self.now < self._trouble_until and self.rng.random() < 0.3

    def _minds(self) -> Iterator[float]:
        while True:
            yield 1.0
            self.brokers.expire()


@contextmanager
def _simulated(world: BeatWorld) -> Iterator[None]:
    """Has the code use the simulated brokers and clocks, and do often what it does seldom."""
    ids = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"{world.rng.getrandbits(64):016x}"))
    changes: list[tuple[Any, str, Any]] = [
        *((module, "time", world.clock) for module in (exclusive, synclog, loop, node)),
        (node, "uuid", ids),
        (exclusive, "Transactor", Transactor),
        (exclusive, "_CHECKPOINT_EVERY", 25),
        (synclog, "Fetcher", Fetcher),
        (synclog, "_PAGE", 10),
    ]
    with fibers.simulated(world.clock), ExitStack() as stack:
        for change in changes:
            stack.enter_context(patch.object(*change))
        yield
