"""Decides when a static member of a consumer group, which has come back, joins the group once more."""

from __future__ import annotations

from kafka_exec.core.nodes.heartbeat import Joining

#: A member that is to join again tries to so often, seconds: the client library may pass a try over, and does not say so.
JOIN_EVERY = 2.0


class Rejoining:
    """A membership that must not end with the assignment that Kafka gives it first.

    A static member that comes back gets its former assignment, and no rebalance follows (KIP-345). If it died in the middle
    of one, when it had let partitions go and the new owner was still to get them, they would have no owner from then on.
    So it joins again until Kafka has given it a second assignment.
    """

    def __init__(self) -> None:
        self._has_joined = self._is_needed = False
        self._assignments, self._next = 0, 0.0

    def join(self, joining: Joining) -> None:
        """Begins a membership. A member that has been one of the group in this process is one that comes back."""
        self._is_needed = joining.static_id is not None and (joining.is_return or self._has_joined)
        self._has_joined, self._assignments = True, 0

    def assigned(self) -> None:
        """Notes that Kafka has given the member an assignment."""
        self._assignments += 1
        if self._assignments > 1:
            self._is_needed = False

    def is_due(self, now: float) -> bool:
        """True if the member is to try now, in seconds of the monotonic clock; the next time is :data:`JOIN_EVERY` later."""
        if not self._is_needed or not self._assignments or now < self._next:
            return False
        self._next = now + JOIN_EVERY
        return True
