"""The time for which a member of a consumer group may be sure that it owns its partitions."""

from __future__ import annotations


class Tenure:
    """A member's ownership of its partitions, which it may have lost without knowing it while its process was stopped.

    A member that has heard nothing of its group for half a session begins no task before it has asked Kafka. It sends a
    heartbeat at least every third of a session, so by then no other member has got its partitions yet.

    Args:
        session: Kafka gives a member's partitions to others after so many seconds without a heartbeat.
        now: here and below, seconds of a clock that goes on while the process is stopped.
    """

    def __init__(self, session: float, now: float) -> None:
        self._longest = session / 2
        self._sure = now

    def is_sure(self, now: float) -> bool:
        """True if the member certainly owns its partitions."""
        return now - self._sure <= self._longest

    def look(self, now: float) -> bool:
        """Notes that the member has heard from its group. Returns False if that comes too late: it must ask Kafka."""
        if not self.is_sure(now):
            return False
        self._sure = now
        return True

    def confirm(self, now: float) -> None:
        """Notes that Kafka knew the member as one of the group, in answer to a question at ``now``."""
        self._sure = now
