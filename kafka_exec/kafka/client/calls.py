"""Calls made in one thread on behalf of others.

A librdkafka consumer serves one thread at a time: a thread that calls it while another one polls it may wait for ever. So a
reader's thread makes all calls, between two polls.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.client import native

T = TypeVar("T")

#: The time after a call for which the thread looks often, seconds: one call is often followed by another.
_ATTENTIVE_FOR = 2.0
_ATTENTIVE_POLL = 0.01


class Calls:
    """The calls that wait for a reader's thread. ``idle_poll``: the longest the thread polls in one go, seconds."""

    def __init__(self, idle_poll: float) -> None:
        self._idle_poll = idle_poll
        self._waiting: deque[Callable[[], None]] = deque()
        self._last = time.monotonic()  # a reader is made for a call that comes now

    @property
    def poll_time(self) -> float:
        """The time that the thread may poll now, seconds."""
        if self._waiting or time.monotonic() - self._last < _ATTENTIVE_FOR:
            return _ATTENTIVE_POLL
        return self._idle_poll

    def ask(self, function: Callable[[], T], timeout: float) -> T:
        """Has the thread call a function, and returns its result.

        Raises:
            ConnectionFailed: the thread has not done it within ``timeout`` seconds.
        """
        found: T = native.call(self._ask, function, timeout)
        return found

    def _ask(self, function: Callable[[], T], timeout: float) -> T:
        done = native.lock()
        done.acquire()
        outcome: list[Any] = []
        given_up: list[bool] = []

        def run() -> None:
            if given_up:
                return
            try:
                outcome.append((function(), None))
            except Exception as error:
                outcome.append((None, error))
            done.release()

        self._last = time.monotonic()
        self._waiting.append(run)
        if not done.acquire(timeout=timeout):
            given_up.append(True)  # a call that no caller waits for is not begun any more
            raise ConnectionFailed(f"Kafka's client has not answered within {timeout:.0f} s")
        result, error = outcome[0]
        if error is not None:
            raise error
        found: T = result
        return found

    def serve(self) -> None:
        """Makes the calls that wait; for the thread."""
        while self._waiting:
            self._last = time.monotonic()
            self._waiting.popleft()()
