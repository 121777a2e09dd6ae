"""The trust of a process in what it knows of a partition: that it owns it, and that it has heard what others have told."""

from __future__ import annotations

from collections.abc import Callable

from kafka_exec.core.nodes.liveness import TrustWindow


class Trust:
    """The trust of one process in what it knows of one partition.

    A process that was stopped for long may own the partition still, and yet not have heard what others have told meanwhile.
    It has heard all of that when it hears a begin of its own that it has told since.

    Args:
        membership: the time for which the owner may trust that it still owns the partition, in steady time.
        hears: returns True while this process hears the partition's journal.
        keeps_journal: False: no process heeds the others.
    """

    def __init__(self, membership: TrustWindow, hears: Callable[[], bool], *, keeps_journal: bool) -> None:
        self._membership, self._hears, self._keeps_journal = membership, hears, keeps_journal
        self._heard = membership.lapses
        # The begins that were told last: the number of each, and of the lapses of the membership before it.
        self._told: dict[int, tuple[int, int]] = {}

    @property
    def until(self) -> float | None:
        """The steady time until which the owner may trust that it is the owner; None: it may not."""
        return self._membership.until

    def is_owner(self, steady: float) -> bool:
        """False if the process may have lost the partition without notice."""
        return not self._keeps_journal or self._membership.is_open(steady)

    def lacks_news(self) -> bool:
        """True if others may have told what is not heard: the process was stopped since it has heard its own begins last."""
        return self._was_stopped(since=self._heard)

    def is_begin_old(self, offset: int) -> bool:
        """True if the process was stopped for long since it has told that a task begins."""
        return offset in self._told and self._was_stopped(since=self._told[offset][1])

    def _was_stopped(self, since: int) -> bool:
        return since != self._membership.lapses and self._hears()

    def begin(self, offset: int, attempt: int) -> None:
        """Notes that this process tells that a task begins, for the how many-th time."""
        self._told[offset] = attempt, self._membership.lapses

    def hear_own(self, offset: int, attempt: int) -> bool:
        """Notes that this process hears a begin of its own. Returns False if it has told another one of the task since."""
        last, lapses = self._told.get(offset, (0, 0))
        if attempt != last:
            return False
        self._heard = lapses
        return True

    def forget(self, offset: int) -> None:
        """Notes that a task does not run here any more."""
        self._told.pop(offset, None)
