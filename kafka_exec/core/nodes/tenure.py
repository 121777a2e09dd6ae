"""Whether a member of a consumer group may still take its partitions for its own."""

from __future__ import annotations


class Tenure:
    """A member that was stopped for longer than its session lasts may have lost its partitions, and not know it yet.

    So it begins nothing when it has not heard of its group for half a session: Kafka hears from it at least every third of
    one, so at that time nobody else has got them yet. Before it goes on it must ask.

    Args:
        session: after so long without a sign of life Kafka gives a member's partitions to others, seconds.
        now: here and below, of a clock that also counts while the process is stopped, seconds.
    """

    def __init__(self, session: float, now: float) -> None:
        self._longest = session / 2
        self._sure = now

    def is_sure(self, now: float) -> bool:
        """Whether its partitions are its own."""
        return now - self._sure <= self._longest

    def look(self, now: float) -> bool:
        """Notes that it has heard what became of its partitions. False: it is too late for that, it must ask."""
        if not self.is_sure(now):
            return False
        self._sure = now
        return True

    def confirm(self, now: float) -> None:
        """Notes that Kafka had it for a member after it was asked at this time."""
        self._sure = now
