"""Pauses of a process: if it stood still for a while, others may have taken it for lost meanwhile."""

from __future__ import annotations


class Ticks:
    """A fold of ticks that should come at regular times.

    Args:
        longest: a longer time between two ticks is a pause, seconds.
        now: here and below, seconds of a clock that goes on while the process is stopped.
    """

    def __init__(self, longest: float, now: float) -> None:
        self._longest = longest
        self._last = now
        self._resumed = float("-inf")

    def tick(self, now: float) -> None:
        """Notes that the process runs."""
        if now - self._last > self._longest:
            self._resumed = now  # before _last: another thread may ask between the two lines
        self._last = now

    def stood_still_since(self, began: float, now: float) -> bool:
        """True if a pause has ended at or after ``began``."""
        self.tick(now)
        return self._resumed >= began
