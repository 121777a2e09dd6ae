"""Whether a process stood still for a while, and may have been given up meanwhile."""

from __future__ import annotations


class Ticks:
    """A fold of ticks that should come at regular times.

    Args:
        longest: more than this between two ticks is a pause, seconds.
        now: here and below, of a clock that goes on while the process is stopped, seconds.
    """

    def __init__(self, longest: float, now: float) -> None:
        self._longest = longest
        self._last = now
        self._resumed = float("-inf")

    def tick(self, now: float) -> None:
        """The process runs."""
        if now - self._last > self._longest:
            self._resumed = now  # first, for whoever asks in another thread meanwhile
        self._last = now

    def stood_still_since(self, began: float, now: float) -> bool:
        """Whether a pause has ended after a time."""
        self.tick(now)
        return self._resumed >= began
