"""A simulated beat: the real share in the entries; around it its tasks, and the processes that run some of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kafka_exec.core.beat.agenda import Plan
from kafka_exec.core.beat.claimant import Firing
from kafka_exec.core.cluster.names import Topics
from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.beat.exclusive import Exclusive
from kafka_exec.kafka.publish.scopes import Outgoing
from tests.simulation.beats import fibers
from tests.simulation.beats.site import Site

if TYPE_CHECKING:
    from tests.simulation.beats.world import BeatWorld

NAMES = Topics("b")

#: The topic of the tasks that are fired.
QUEUE = "queue"

#: A run that is told to stop may take so long, seconds; then it is killed.
_GRACE = 1.0

#: The share of runs during which their node is stopped.
_STOPPED = 0.1


@dataclass
class Run:
    """A run of an entry, in a process of its own."""

    entry: str
    begun: bool = False
    stopped: bool = False
    over: bool = False


class Process:
    """A beat's process, from its start to its end. It goes through several incarnations if it is taken for dead.

    Attributes:
        mute_until: until then nobody hears its heartbeats.
    """

    children_go_on = True

    def __init__(self, world: BeatWorld, name: str) -> None:
        self.world, self.rng, self.name = world, world.rng, name
        self.dead = False
        self.paused_until = self.cut_until = self.mute_until = 0.0
        self.ahead, self.wall = self.rng.random() * 1000, 0.0
        self.fibers: list[fibers.Fiber] = []
        world.clock.enter(self)
        self.host = Host(self)
        site = Site(self)
        self.exclusive = Exclusive(site, NAMES, name, self.host)  # type: ignore[arg-type]
        self.exclusive.start()

    @property
    def is_cut(self) -> bool:
        return self.world.now < self.cut_until

    def note(self, event: str, *details: object) -> None:
        self.world.note(self.name, event, *details)

    def moment(self) -> None:
        """Lets a moment pass, at which the process may be stopped."""
        self.world.stop_at_times(self, _STOPPED / 10)
        fibers.wait(self.rng.random() * 0.03)

    def leave(self) -> None:
        """Begins to shut the process down in order."""
        self.exclusive._loop.stop()

    def end(self) -> None:
        """Ends the process at once, with the processes of its runs."""
        for run in self.host.runs.values():
            self.host.is_over(run)
        fibers.end(self)


class Host:
    """The entries of a process, in place of :class:`kafka_exec.beat.Scheduler`.

    Attributes:
        held: the entries that it holds, as it is told.
        runs: its runs that are under way, or whose ends were not told.
    """

    def __init__(self, process: Process) -> None:
        self._process, self._world, self._judge = process, process.world, process.world.judge
        self.held: set[str] = set()
        self.runs: dict[str, Run] = {}
        self._ended: list[str] = []
        self._until = -math.inf
        self._version = -1

    def plans(self) -> Mapping[str, Plan] | None:
        self._judge.look_at(self._process)
        if self._version == self._world.version:
            return None
        self._version = self._world.version
        return dict(self._world.plans)

    def perform(self, entry: str, firing: Firing, runs: int) -> Sequence[Outgoing]:
        self._judge.may_act(self._process, entry)
        if self._world.is_in_trouble():
            raise ConnectionFailed("no answer")
        size = ["huge"] if firing.request is None and self._world.is_huge(entry, firing.slot) else []
        return [Outgoing(QUEUE, json.dumps([entry, firing.slot, firing.run, *size]).encode())]

    def acquired(self, entry: str) -> None:
        self._process.note("holds", entry)
        self._judge.acquired(self._process, entry)

    def released(self, entry: str) -> None:
        self._process.note("has released", entry)
        self._judge.released(self._process, entry)
        if (run := self.runs.pop(entry, None)) is not None:
            self.is_over(run)
        self._ended = [each for each in self._ended if each != entry]

    # -- runs on the node ----------------------------------------------------------------------------------------------

    def begin(self, entry: str, firing: Firing, fence: int) -> None:
        self._judge.may_act(self._process, entry)
        self._world.stop_at_times(self._process, _STOPPED)
        run = self.runs[entry] = Run(entry)
        self._world.spawn(self._lives(run, firing.run, fence), self._process, is_child=True)

    def _lives(self, run: Run, task: str, fence: int) -> Iterator[float]:
        """The process of a run: it ends with its task, when it is told to, and when its lease is over."""
        rng, world = self._process.rng, self._world
        yield rng.random() * 0.02
        end = world.now + world.length_of_run()
        if not run.stopped and not self._is_lease_over:
            self._judge.begins(self._process, run.entry, task, fence)
            run.begun = True
            while world.now < end and not self._is_lease_over:
                yield min(0.1, end - world.now)
                if run.over:
                    return
                if run.stopped:
                    end = min(end, world.now + 0.2 * rng.random())
        self.is_over(run)

    @property
    def _is_lease_over(self) -> bool:
        return self._world.clock.monotonic() >= self._until

    def is_over(self, run: Run) -> None:
        """Ends a run."""
        if run.begun and not run.over:
            self._judge.ends(self._process, run.entry)
        run.over = True

    def ended(self) -> Sequence[str]:
        ended, self._ended = self._ended, []
        over = [entry for entry, run in self.runs.items() if run.over]
        for entry in over:
            del self.runs[entry]
        return [*ended, *over]

    def stop(self, entries: Iterable[str], reason: str) -> None:
        running = [run for entry in entries if (run := self.runs.get(entry)) is not None]
        for run in running:
            run.stopped = True
        deadline = self._world.now + _GRACE
        while any(not run.over for run in running) and self._world.now < deadline:
            fibers.wait(0.05)
        for run in running:
            self.is_over(run)
            self.runs.pop(run.entry, None)
            self._ended.append(run.entry)

    def lease(self, until: float) -> None:
        self._until = until
