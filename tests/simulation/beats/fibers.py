"""Threads of code that waits wherever it likes: each is a greenlet, and the scheduler goes on with it after each wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol
from unittest.mock import patch

from greenlet import GreenletExit, getcurrent, greenlet

from kafka_exec.errors import KafkaExecError
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.complaints import Complaints, Setback
from tests.simulation.clock import Clock, Process


class Ended(GreenletExit):  # type: ignore[misc]
    """The process has ended: none of its threads does anything any more."""


class FiberProcess(Process, Protocol):
    """A process with such threads.

    Attributes:
        wall: how far its other clock is ahead of the brokers'.
        fibers: its threads that have not ended.
    """

    world: Any
    wall: float
    fibers: list[Fiber]


class Fiber(greenlet):  # type: ignore[misc]
    """A thread of a process."""

    def __init__(self, process: FiberProcess, act: Callable[[], object]) -> None:
        check(process)
        super().__init__(act)
        self.process = process
        process.fibers.append(self)
        process.world.spawn(self._steps(), process)

    def _steps(self) -> Iterator[float]:
        self.parent = getcurrent()  # the scheduler, not the thread that has started this one
        while not self.dead:
            wait = self.switch()
            if (error := self.process.world.error) is not None:
                raise error
            if not self.dead:
                yield wait
        self.process.fibers.remove(self)


def wait(seconds: float) -> None:
    """Has the present thread wait."""
    fiber = getcurrent()
    check(fiber.process)
    fiber.parent.switch(seconds)
    check(fiber.process)


def check(process: FiberProcess) -> None:
    """Ends the present thread if its process has ended."""
    if process.dead:
        raise Ended


def end(process: FiberProcess) -> None:
    """Ends a process with all its threads."""
    process.dead = True
    for fiber in process.fibers:
        fiber.throw(Ended)
    process.fibers.clear()


class _Event:
    """An event, in place of :class:`kafka_exec.kafka.client.native.NativeEvent`."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        if isinstance(fiber := getcurrent(), Fiber):
            check(fiber.process)
        return self._is_set

    def wait(self, timeout: float) -> bool:
        if not self._is_set:
            wait(timeout)
        return self._is_set


class FiberClock(Clock):
    """The present time, as the process of the present thread knows it.

    Attributes:
        acting: that process.
    """

    acting: Any = None

    def enter(self, process: Process) -> None:
        super().enter(process)
        self.acting = process

    def time(self) -> float:
        return self.now + float(self.acting.wall)


@contextmanager
def simulated(clock: FiberClock) -> Iterator[None]:
    """Has threads of the code be fibers."""

    def tell(complaints: Complaints, error: BaseException, then: str = "") -> None:
        if not isinstance(error, (KafkaExecError, Setback, Ended)):
            clock.acting.world.break_off(error)

    with ExitStack() as stack:
        stack.enter_context(patch.object(Complaints, "tell", tell))
        stack.enter_context(patch.object(native, "Thread", lambda target, name: Fiber(clock.acting, target)))
        stack.enter_context(patch.object(native, "NativeEvent", _Event))
        stack.enter_context(patch.object(native, "sleep", wait))
        yield
