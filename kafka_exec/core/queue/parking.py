"""When what waits in a held lane is *parked*: named in the journal, so that the commit goes on without it.

Otherwise one key that is stopped, or retried for days, would have each new owner read all that was ever sent after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kafka_exec.core.queue.lanes import Lane

#: A commit that has stood still for so long goes on without what waits in held lanes, seconds.
PATIENCE = 10.0

#: So many records of a partition may be parked, which bounds its checkpoints; what waits beyond holds the commit back.
MOST_PARKED = 10_000

#: So many at a time, which bounds a record of the journal.
_MOST_AT_ONCE = 1000


class Standstill:
    """For how long the lowest unfinished offset of a partition has been the same."""

    def __init__(self) -> None:
        self._low = -1
        self._since = 0.0

    def is_long(self, low: int, now: float) -> bool:
        """Whether the commit has stood still long enough. ``now``: monotonic seconds."""
        if low != self._low:
            self._low, self._since = low, now
        return now - self._since >= PATIENCE


def to_park(blocked: Iterable[tuple[Lane, list[int]]], parked: Mapping[int, Lane]) -> dict[Lane, list[int]]:
    """What is to be parked now, by lane: the first of all that is blocked, so that lanes keep their order.

    Args:
        blocked: by lane, the records that wait for one that is not among them, ascending.
        parked: what is parked already.
    """
    room = min(_MOST_AT_ONCE, MOST_PARKED - len(parked))
    waiting = sorted((offset, lane) for lane, offsets in blocked for offset in offsets if offset not in parked)
    found: dict[Lane, list[int]] = {}
    for offset, lane in waiting[: max(0, room)]:
        found.setdefault(lane, []).append(offset)
    return found
