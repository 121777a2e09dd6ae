"""The time of a simulation: the order in which all threads go on, by a seed, and the clocks that real code reads there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from heapq import heappop, heappush
from typing import Protocol
from unittest.mock import patch

from kafka_exec.core.queue import checkpoints, progress
from kafka_exec.core.queue.partition import outbox, parking
from kafka_exec.kafka.queue import commits, journal_writer, owned


class Clock:
    """The present time. ``now``: the brokers'; ``ahead``: how far the steady clock of the process that runs is ahead."""

    def __init__(self) -> None:
        self.now = self.ahead = 0.0

    def enter(self, process: Process) -> None:
        """Notes that a process runs from now on."""
        self.ahead = process.ahead

    def monotonic(self) -> float:
        return self.now + self.ahead

    def time(self) -> float:
        return self.now


class Process(Protocol):
    """A process whose threads may be stopped, all or all but those of its children, and which may die.

    Attributes:
        ahead: how far its steady clock is ahead of the brokers'.
    """

    dead: bool
    paused_until: float
    children_go_on: bool
    ahead: float


class Scheduler:
    """The time of a simulation. Threads are generators: each tells how long it waits until it goes on, seconds.

    Attributes:
        steps: the number of steps of all threads.
        history: what has happened, one line each; None: it is not kept.
    """

    def __init__(self, seed: str, *, keeps_history: bool) -> None:
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.steps = 0
        self.history: list[tuple[float, str, str, tuple[object, ...]]] | None = [] if keeps_history else None
        self._queue: list[tuple[float, int, Process | None, bool, Iterator[float]]] = []
        self._spawned = 0

    @property
    def now(self) -> float:
        return self.clock.now

    def note(self, who: str, event: str, *details: object) -> None:
        if self.history is not None:
            self.history.append((self.now, who, event, details))

    def spawn(self, thread: Iterator[float], process: Process | None = None, *, is_child: bool = False) -> None:
        self._push(self.now, process, is_child, thread)

    def _push(self, at: float, process: Process | None, is_child: bool, thread: Iterator[float]) -> None:
        self._spawned += 1
        heappush(self._queue, (at, self._spawned, process, is_child, thread))

    def go(self, until: float) -> None:
        """Lets time pass."""
        queue, clock = self._queue, self.clock
        while queue[0][0] <= until:
            at, _, process, is_child, thread = heappop(queue)
            clock.now = at
            if process is not None:
                if process.dead:
                    continue
                if at < process.paused_until and not (is_child and process.children_go_on):
                    self._push(process.paused_until + self.rng.random() * 0.01, process, is_child, thread)
                    continue
                clock.enter(process)
            self.steps += 1
            wait = next(thread, None)
            if wait is not None:
                self._push(at + wait, process, is_child, thread)
        clock.now = until


@contextmanager
def simulated(clock: Clock, *, checkpoint_after: int, patience: float) -> Iterator[None]:
    """Has the executor read a simulated clock, and do often what it does seldom.

    Args:
        checkpoint_after: a checkpoint is due after so many transitions.
        patience: waiting tasks are parked after so many seconds of a standstill.
    """
    with ExitStack() as stack:
        for module in (owned, journal_writer, commits):
            stack.enter_context(patch.object(module, "time", clock))
        stack.enter_context(patch.object(outbox, "_CHECKPOINT_AFTER", checkpoint_after))
        stack.enter_context(patch.object(parking, "PATIENCE", patience))
        stack.enter_context(patch.object(parking, "_MOST_AT_ONCE", 5))
        stack.enter_context(patch.object(checkpoints, "_MOST_BYTES", 600))
        stack.enter_context(patch.object(progress, "LONGEST_METADATA", 70))
        yield
