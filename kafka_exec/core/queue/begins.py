"""What must be durable before tasks run, by the numbers under which the journal knows what it is told."""

from __future__ import annotations


def must_be_told(*, has_lane: bool, attempts: int, is_guest: bool) -> bool:
    """Whether a task that was begun may not run before all others could know of it: two runs of it would do harm.

    Args:
        has_lane: it has an ordering key, or a deduplication id.
        attempts: how often it was begun, this time included.
        is_guest: its partition is another's.
    """
    return has_lane or attempts > 1 or is_guest


def to_await(started: int, reserved: int | None, *, has_lane: bool, attempts: int, is_guest: bool) -> int | None:
    """Which of what was told of a task that was begun must be durable before it runs; None: nothing.

    Args:
        started: the number of what tells that it was begun.
        reserved: of what told before that it would be; None: nothing did.
        has_lane, attempts, is_guest: as of :func:`must_be_told`.
    """
    if not must_be_told(has_lane=has_lane, attempts=attempts, is_guest=is_guest):
        return None
    # That it was reserved says all, but for how often it was begun.
    return started if reserved is None or attempts > 1 else reserved


class Begins:
    """Of one partition's tasks that are about to begin, by offset: a fold of what was told of them."""

    def __init__(self) -> None:
        # That they are this process's to begin, told ahead of a free slot; and for what was begun.
        self._reserved: dict[int, int] = {}
        self._to_await: dict[int, int] = {}

    def reserve(self, offset: int, number: int) -> None:
        """Notes that it was told that a task will begin here."""
        self._reserved[offset] = number

    def begin(self, offset: int, number: int, *, has_lane: bool, attempts: int, is_guest: bool) -> None:
        """Notes that it was told that a task begins; for the rest see :func:`to_await`."""
        awaited = to_await(
            number, self._reserved.pop(offset, None), has_lane=has_lane, attempts=attempts, is_guest=is_guest
        )
        if awaited is not None:
            self._to_await[offset] = awaited

    def awaits(self, offset: int) -> int | None:
        """What must be durable before a task that was begun runs; None: nothing."""
        return self._to_await.get(offset)

    def settle(self, offset: int) -> None:
        """Notes that it is durable, or that the task runs no more."""
        self._to_await.pop(offset, None)

    def forget(self, offset: int) -> None:
        """Notes that a task has ended, or is another's."""
        self._reserved.pop(offset, None)
        self._to_await.pop(offset, None)

    def give_up(self) -> list[int]:
        """Forgets what was reserved and has not begun; the offsets."""
        given, self._reserved = list(self._reserved), {}
        return given
