"""Which of the tasks that wait in a worker begins next."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")

#: A task whose run was lost so often may be what kills its workers: of such ones a worker runs one at a time.
SUSPECT_AFTER = 2


def is_given_up(attempts: int, most: int) -> bool:
    """Whether a task that was begun so often, and never ended, is begun no more."""
    return attempts >= most


class Gate(Generic[K, T]):
    """Tasks begin when a slot of the pool is free, in their order; suspects one at a time.

    What has not begun can still go elsewhere, and a revocation reaches it.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[K, bool, T]] = deque()
        # By tag, whether it is a suspect.
        self._running: dict[K, bool] = {}

    def add(self, tag: K, task: T, *, attempts: int) -> None:
        """A task has come. ``attempts``: how often it was begun before."""
        self._waiting.append((tag, attempts >= SUSPECT_AFTER, task))

    def next(self, slots: int) -> tuple[K, T] | None:
        """The task that begins now, and its tag; None if none may."""
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
        """Whether no task may begin before another one ends."""
        return len(self._running) >= max(1, slots)

    @property
    def waiting(self) -> int:
        """How many tasks wait that could as well run elsewhere."""
        return sum(not is_suspect for _, is_suspect, _ in self._waiting)

    def last(self, most: int) -> list[tuple[K, T]]:
        """The tasks that would wait longest, the last first, and their tags; suspects stay."""
        able = ((tag, task) for tag, is_suspect, task in reversed(self._waiting) if not is_suspect)
        return list(islice(able, most))

    def done(self, tag: K) -> None:
        """A task has ended, or will not begin."""
        if self._running.pop(tag, None) is not None:
            return
        for place, waiting in enumerate(self._waiting):
            if waiting[0] == tag:
                del self._waiting[place]
                return
