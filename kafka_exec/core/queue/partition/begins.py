"""Journal entries that must be durable before a task runs, by the numbers that the journal gives to its entries."""

from __future__ import annotations

from typing import NamedTuple


def must_be_told(*, has_lane: bool, attempts: int, is_contested: bool) -> bool:
    """True if a task's begin must be durable before the task runs, because two runs of it would do harm.

    Args:
        has_lane: the task has an ordering key, or a deduplication id.
        attempts: how often the task was begun, this time included.
        is_contested: another incarnation may begin the task too, since its owner has granted it, or takes it back.
    """
    return has_lane or attempts > 1 or is_contested


def to_await(started: int, reserved: int | None, *, has_lane: bool, attempts: int, is_contested: bool) -> int | None:
    """The number of the journal entry that must be durable before a task runs; None if none must be.

    Args:
        started: the number of the entry that the task was begun.
        reserved: the number of an earlier entry that this process would begin it; None if there is none.
        has_lane, attempts, is_contested: as in :func:`must_be_told`.
    """
    if not must_be_told(has_lane=has_lane, attempts=attempts, is_contested=is_contested):
        return None
    # The reservation says the same as the begin, but not how often the task was begun.
    return started if reserved is None or attempts > 1 else reserved


class Begun(NamedTuple):
    """A task that may run.

    Attributes:
        fence: an offset of the journal: grows with each task of the partition whose begin had to be durable, in whichever
            worker. None if the begin of this task need not be durable.
        start_by: the monotonic time by which it must have started; None: any.
    """

    fence: int | None = None
    start_by: float | None = None


class Begins:
    """The tasks of one partition that are about to begin, by offset: a fold of their journal entries."""

    def __init__(self) -> None:
        # Numbers of journal entries: of tasks that this process will begin when a pool slot is free, and of begun ones.
        self._reserved: dict[int, int] = {}
        self._to_await: dict[int, int] = {}

    def reserve(self, offset: int, number: int) -> None:
        """Notes the journal entry that this process will begin a task."""
        self._reserved[offset] = number

    def begin(self, offset: int, number: int, *, has_lane: bool, attempts: int, is_contested: bool) -> None:
        """Notes the journal entry that a task begins; for the other arguments see :func:`to_await`."""
        awaited = to_await(
            number, self._reserved.pop(offset, None), has_lane=has_lane, attempts=attempts, is_contested=is_contested
        )
        if awaited is not None:
            self._to_await[offset] = awaited

    def awaits(self, offset: int) -> int | None:
        """The number of the entry that must be durable before a begun task runs; None if none must be."""
        return self._to_await.get(offset)

    def settle(self, offset: int) -> None:
        """Notes that the entry is durable, or that the task runs no more."""
        self._to_await.pop(offset, None)

    def forget(self, offset: int) -> None:
        """Notes that a task has ended, or that another worker has it."""
        self._reserved.pop(offset, None)
        self._to_await.pop(offset, None)

    def is_reserved(self, offset: int) -> bool:
        """True if the task was reserved, and has not begun."""
        return offset in self._reserved

    def give_up(self) -> list[int]:
        """Forgets the reserved tasks that have not begun, and returns their offsets."""
        given, self._reserved = list(self._reserved), {}
        return given
