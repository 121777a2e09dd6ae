"""The records of one partition that wait in lanes."""

from __future__ import annotations

from confluent_kafka import Message as Record

from kafka_exec.core.lanes import Lane, Lanes

#: Of all that waits, so many bytes are held in memory; the rest are offsets, and read again when their turn comes.
_MOST_BYTES = 512 * 1024

#: What a record takes beside its value, bytes.
_OVERHEAD = 1024


class Queued:
    """Not thread-safe.

    Attributes:
        lanes: which record waits for which.
        wanted: the offsets of records that are needed, and not held in memory.
    """

    def __init__(self) -> None:
        self.lanes = Lanes()
        self.wanted: set[int] = set()
        self._kept: dict[int, Record] = {}
        self._bytes = 0

    def keep(self, record: Record, *, anyway: bool = False) -> None:
        """Holds a record that waits, if there is room."""
        if anyway or self._bytes < _MOST_BYTES:
            self._kept[record.offset()] = record
            self._bytes += len(record) + _OVERHEAD

    def take(self, offset: int) -> Record | None:
        """A record whose turn has come; None if it must be read again."""
        record = self._kept.pop(offset, None)
        if record is None:
            self.wanted.add(offset)
        else:
            self._bytes -= len(record) + _OVERHEAD
        return record

    def look_ahead(self, lane: Lane) -> None:
        """The first record of a lane begins: the one after it will soon be needed."""
        offset = self.lanes.after(lane)
        if offset is not None and offset not in self._kept:
            self.wanted.add(offset)

    def leave(self, offset: int) -> None:
        """A record has ended."""
        self.lanes.leave(offset)
        self.wanted.discard(offset)
        if (record := self._kept.pop(offset, None)) is not None:
            self._bytes -= len(record) + _OVERHEAD
