"""The progress of reading a log up to an end: the lines to log about it, and the time at which the reader gives up."""

from __future__ import annotations

#: A reader gives up when no record has come for so many seconds.
TIMEOUT = 10.0

#: Seconds between two lines about the progress of a long log.
_TELL_EVERY = 2.0


class Reading:
    """A fold of the number of records that are left to read.

    Args:
        log: the log's name.
        total: how many records there are to read.
        now: here and below, seconds of any clock that is not set.
    """

    def __init__(self, log: str, total: int, now: float) -> None:
        self._log = log
        self._total = self._left = total
        self._began = self._moved = self._told = now

    def look(self, left: int, now: float) -> str | None:
        """Notes the number of records that are left. Returns the line to log, if it is time for one."""
        if left < self._left:
            self._left, self._moved = left, now
        if now - self._told < _TELL_EVERY:
            return None
        self._told = now
        return f"reading {self._log}: {self._total - left} of {self._total} records in {now - self._began:.0f} s"

    def is_stuck(self, now: float) -> bool:
        """True if no record has come for too long."""
        return now - self._moved > TIMEOUT
