"""How far a log is read that is read up to an end: what to tell of it, and when to give up."""

from __future__ import annotations

#: So long nothing may come, seconds.
TIMEOUT = 10.0

#: How often it is told how far a long one is read, seconds.
_TELL_EVERY = 2.0


class Reading:
    """A fold of how much is left, looked at now and then.

    Args:
        log: its name.
        total: how many records there are to read.
        now: here and below, seconds of any clock that goes on.
    """

    def __init__(self, log: str, total: int, now: float) -> None:
        self._log = log
        self._total = self._left = total
        self._began = self._moved = self._told = now

    def look(self, left: int, now: float) -> str | None:
        """Notes that so many records are left; the line to log, if it is time for one."""
        if left < self._left:
            self._left, self._moved = left, now
        if now - self._told < _TELL_EVERY:
            return None
        self._told = now
        return f"reading {self._log}: {self._total - left} of {self._total} records in {now - self._began:.0f} s"

    def is_stuck(self, now: float) -> bool:
        """Whether nothing has come for too long."""
        return now - self._moved > TIMEOUT
