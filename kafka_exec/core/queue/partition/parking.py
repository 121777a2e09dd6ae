"""Parking of tasks that wait in held lanes: the owner names them in the journal, so that the commit goes on without them.

Otherwise, after a key was stopped or retried for days, each new owner would have to read all that was sent since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kafka_exec.core.queue.lanes import Lane

#: After a standstill of so many seconds the commit goes on without the tasks that wait in held lanes.
PATIENCE = 10.0

#: At most so many records of a partition are parked, which bounds its checkpoints; further ones hold the commit back.
MOST_PARKED = 10_000

#: At most so many records are parked at a time, which bounds a record of the journal.
_MOST_AT_ONCE = 1000


class Standstill:
    """The time for which the lowest unfinished offset of a partition has been the same."""

    def __init__(self) -> None:
        self._low = -1
        self._since = 0.0

    def is_long(self, low: int, now: float) -> bool:
        """True if the commit has stood still for :data:`PATIENCE`. ``now``: monotonic seconds."""
        if low != self._low:
            self._low, self._since = low, now
        return now - self._since >= PATIENCE


def to_park(blocked: Iterable[tuple[Lane, list[int]]], parked: Mapping[int, Lane]) -> dict[Lane, list[int]]:
    """The records to park now, by lane: those with the lowest offsets, so that lanes keep their order.

    Args:
        blocked: the records that wait in held lanes, by lane, in ascending order.
        parked: the records that are parked already.
    """
    room = min(_MOST_AT_ONCE, MOST_PARKED - len(parked))
    waiting = sorted((offset, lane) for lane, offsets in blocked for offset in offsets if offset not in parked)
    found: dict[Lane, list[int]] = {}
    for offset, lane in waiting[: max(0, room)]:
        found.setdefault(lane, []).append(offset)
    return found
