"""Threads of this process: each of them runs here, and an error ends none of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.complaints import Complaints

#: The pauses after a turn that has failed, seconds: each twice as long as the one before, from the first to the longest.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0

#: A turn that has failed after so long was well before: the next pause is the first again, seconds.
_WELL = 10.0


class Loop:
    """A thread that makes one turn after another, from :meth:`start` to :meth:`stop`.

    An error ends a turn, not the thread. It is told and counted by :class:`~kafka_exec.kafka.client.complaints.Complaints`,
    and after a pause comes the next turn. So a fault of one record, or of a moment, stops nothing else.

    Args:
        name: the thread's, after ``kafka-exec-``.
        turn: makes one turn. It may be short, or last until the loop is stopped; it looks at :attr:`is_stopping` then.
        end: called in the thread after the last turn.
        complaints: tells and counts the errors; by default under the thread's name.
        cooperative: under gevent and eventlet the thread is a greenlet: for code that uses Python's sockets, or runs tasks.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], object],
        *,
        end: Callable[[], object] = lambda: None,
        complaints: Complaints | None = None,
        cooperative: bool = False,
    ) -> None:
        self._name = f"kafka-exec-{name}"
        self._turn = turn
        self._end = end
        self._complaints = complaints or Complaints(self._name)
        self._stop: Any = threading.Event() if cooperative else native.NativeEvent()
        self._cooperative = cooperative
        self._thread: Any = None

    def start(self) -> None:
        """Starts the thread; a second call changes nothing."""
        if self._thread is None:
            self._thread = _thread(self._run, self._name, self._cooperative)

    @property
    def is_started(self) -> bool:
        """True if the thread was started."""
        return self._thread is not None

    @property
    def is_stopping(self) -> bool:
        """True if the thread is to end, or has ended."""
        return bool(self._stop.is_set())

    def stop(self) -> None:
        """Has the thread end after its present turn, and ends a pause at once. It does not wait."""
        self._stop.set()

    def join(self, timeout: float) -> bool:
        """Waits for the end after :meth:`stop`. Returns False if it has not come within ``timeout`` seconds."""
        if self._thread is None:
            return True
        if isinstance(self._thread, threading.Thread):
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return bool(self._thread.join(timeout))

    def pause(self, seconds: float) -> None:
        """Pauses the thread, at most until the loop is stopped."""
        self._stop.wait(seconds)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self.is_stopping:
            began = time.monotonic()
            if self._guarded(self._turn, "; starting over"):
                pause = FIRST_PAUSE
                continue
            if time.monotonic() - began > _WELL:
                pause = FIRST_PAUSE
            self.pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._guarded(self._end, "")

    def _guarded(self, act: Callable[[], object], then: str) -> bool:
        try:
            act()
        except _caught(self._cooperative) as error:
            self._complaints.tell(error, then)
            return False
        return True


def run_once(name: str, act: Callable[[], object], *, after: float = 0.0, cooperative: bool = False) -> None:
    """Calls a function once, in a thread of its own. An error is told and counted like one of a loop.

    Args:
        name: the thread's, after ``kafka-exec-``.
        after: the seconds that the thread waits first.
        cooperative: as for :class:`Loop`.
    """

    def run() -> None:
        try:
            if after:
                (time.sleep if cooperative else native.sleep)(after)
            act()
        except _caught(cooperative) as error:
            _of_once.setdefault(name, Complaints(f"kafka-exec-{name}")).tell(error)

    _thread(run, f"kafka-exec-{name}", cooperative)


_of_once: dict[str, Complaints] = {}


def _caught(cooperative: bool) -> type[BaseException]:
    """The errors that end no thread. A greenlet is ended by one that is no Exception."""
    return Exception if cooperative else BaseException


def _thread(target: Callable[[], None], name: str, cooperative: bool) -> Any:
    if not cooperative:
        return native.Thread(target, name)
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
