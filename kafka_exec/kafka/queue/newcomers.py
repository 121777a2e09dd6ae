"""The records of a partition that have begun to wait in lanes, for the states of their tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import Message as Record

from kafka_exec.core.message.envelope import Headers

#: The most records that are told of at once, the last ones.
_MOST = 10_000


class Newcomer(NamedTuple):
    """A record that has begun to wait in a lane.

    Attributes:
        timestamp: when it was written, epoch seconds.
        place: the number of records before it in its lane.
    """

    offset: int
    headers: Headers
    timestamp: float
    place: int


class Newcomers:
    """The records that have begun to wait since they were taken last. Not thread-safe."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=_MOST)

    def add(self, records: Iterable[Record]) -> None:
        """Adds records that begin to wait."""
        self._records.extend(records)

    def take(self, places: Callable[[Iterable[int]], Mapping[int, int]]) -> list[Newcomer]:
        """Takes out those that still wait. ``places``: returns the places of those among some offsets."""
        came = {record.offset(): record for record in self._records}
        self._records.clear()
        found = [(came[offset], place) for offset, place in places(came).items()]
        return [
            Newcomer(record.offset(), record.headers() or [], record.timestamp()[1] / 1000, place)
            for record, place in found
        ]
