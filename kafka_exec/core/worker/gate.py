"""The gate of a worker: it chooses the next task to begin, of those that wait for a pool slot."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")

#: A task whose runs were lost so often is a suspect: it may be what kills its workers. A worker runs one suspect at a time.
SUSPECT_AFTER = 2


def is_given_up(attempts: int, most: int) -> bool:
    """True if a task that was begun ``attempts`` times, and never ended, must not begin again. ``most``: the limit."""
    return attempts >= most


class Gate(Generic[K, T]):
    """The tasks of a worker that wait for a pool slot. They begin in their order, but suspects one at a time.

    A task that has not begun can still go to another worker, and can be revoked.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[K, bool, T]] = deque()
        # The running tasks by tag, with True for a suspect.
        self._running: dict[K, bool] = {}

    def add(self, tag: K, task: T, *, attempts: int) -> None:
        """Adds a task. ``attempts``: how often it was begun before."""
        self._waiting.append((tag, attempts >= SUSPECT_AFTER, task))

    def next(self, slots: int) -> tuple[K, T] | None:
        """The task that begins now, with its tag; None if none may. It counts as running from now on."""
        if self.is_full(slots):
            return None
        suspect_runs = any(self._running.values())
        for place, (tag, is_suspect, task) in enumerate(self._waiting):
            if not (is_suspect and suspect_runs):
                del self._waiting[place]
                self._running[tag] = is_suspect
                return tag, task
        return None

    def is_full(self, slots: int) -> bool:
        """True if no task may begin before another one ends. ``slots``: the number of pool slots."""
        return len(self._running) >= max(1, slots)

    @property
    def waiting(self) -> int:
        """The number of waiting tasks that another worker could run as well: all but suspects."""
        return sum(not is_suspect for _, is_suspect, _ in self._waiting)

    def last(self, most: int) -> list[tuple[K, T]]:
        """The tasks that would begin last, with their tags: the last one first, without suspects, at most ``most``."""
        able = ((tag, task) for tag, is_suspect, task in reversed(self._waiting) if not is_suspect)
        return list(islice(able, most))

    def done(self, tag: K) -> None:
        """Removes a task that has ended, or will not begin."""
        if self._running.pop(tag, None) is not None:
            return
        for place, waiting in enumerate(self._waiting):
            if waiting[0] == tag:
                del self._waiting[place]
                return
