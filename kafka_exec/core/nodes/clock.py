"""The brokers' clock, estimated by a process from the timestamps of the records that it reads."""

from __future__ import annotations

from collections import deque

#: The number of readings that count, the latest ones: the estimate follows a clock that drifts within their time.
_READINGS = 60

#: A reading that is more than ``_EARLIER`` seconds behind the estimate comes from a record that was read late. If
#: ``_IN_A_ROW`` readings in a row are, the clock is another one: it was set back, or another broker leads the partition.
_EARLIER = 1.0
_IN_A_ROW = 5

#: A machine's clock that differs from the log's by more seconds is wrong. It counts as set right at half of it.
_TOLERATED = 1.0


class LogClock:
    """The difference between log time and this machine's monotonic clock.

    A record was appended before it is read, so each reading is too early by the time that its record was under way. The
    greatest of several readings is the best one.
    """

    def __init__(self) -> None:
        self._readings: deque[float] = deque(maxlen=_READINGS)
        self._ahead: float | None = None
        self._earlier = 0

    def take(self, at: float, now: float) -> None:
        """Takes a reading: a record with log time ``at`` was read at ``now``, in seconds of the monotonic clock."""
        reading = at - now
        is_earlier = self._ahead is not None and self._ahead - reading > _EARLIER
        self._earlier = self._earlier + 1 if is_earlier else 0
        if self._earlier >= _IN_A_ROW:
            self._readings.clear()
        self._readings.append(reading)
        self._ahead = max(self._readings)

    def time(self, now: float) -> float | None:
        """The log time in epoch seconds; None before the first record was read."""
        return None if self._ahead is None else now + self._ahead


def is_wrong(ahead: float) -> bool:
    """True if a clock that is ahead by so many seconds is not to be relied on."""
    return abs(ahead) > _TOLERATED


class Skew:
    """The difference between a machine's clock and the log's: a fold that finds out when it is news."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._told = False

    def take(self, ahead: float) -> bool:
        """Notes by how many seconds the machine's clock is ahead. Returns True if that is to be told.

        A heartbeat that is read late makes a clock look ahead that is right: it must look so several times in a row.
        """
        self._in_a_row = self._in_a_row + 1 if is_wrong(ahead) else 0
        self._told = self._told and abs(ahead) > _TOLERATED / 2
        is_news = self._in_a_row >= _IN_A_ROW and not self._told
        self._told = self._told or is_news
        return is_news
