"""The brokers' clock, as a process can know it from the records that it reads."""

from __future__ import annotations

from collections import deque

#: So many of the last readings count: a clock that drifts is followed within their time.
_READINGS = 60

#: A reading that is so much earlier than the others comes of a record that was read late, seconds; so many of them in a row
#: are another clock: the brokers' was set back, or another broker leads.
_EARLIER = 1.0
_IN_A_ROW = 5


class LogClock:
    """Log time less this machine's monotonic clock.

    A record that is read now was appended before: each reading is too early by the record's way. Of several the greatest is
    the best.
    """

    def __init__(self) -> None:
        self._readings: deque[float] = deque(maxlen=_READINGS)
        self._ahead: float | None = None
        self._earlier = 0

    def take(self, at: float, now: float) -> None:
        """A record with a log time was read. ``now``: seconds of the monotonic clock."""
        reading = at - now
        is_earlier = self._ahead is not None and self._ahead - reading > _EARLIER
        self._earlier = self._earlier + 1 if is_earlier else 0
        if self._earlier >= _IN_A_ROW:
            self._readings.clear()
        self._readings.append(reading)
        self._ahead = max(self._readings)

    def time(self, now: float) -> float | None:
        """The log time, epoch seconds; None: nothing was read yet."""
        return None if self._ahead is None else now + self._ahead
