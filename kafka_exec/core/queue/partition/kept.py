"""The waiting records of a partition that are kept in memory, and those that must be read again."""

from __future__ import annotations

from collections.abc import Sized
from typing import Generic, TypeVar

#: The most bytes of waiting records that are kept in memory. The rest are offsets, and read again when their turn comes.
_MOST_BYTES = 512 * 1024

#: The memory that a record takes beside its value, bytes.
_OVERHEAD = 1024

R = TypeVar("R", bound=Sized)


class Kept(Generic[R]):
    """The records that are kept, by offset. The length of a record is its size in bytes.

    Attributes:
        wanted: the offsets of records that are needed soon, and not kept.
    """

    def __init__(self) -> None:
        self.wanted: set[int] = set()
        self._records: dict[int, R] = {}
        self._bytes = 0

    def __contains__(self, offset: int) -> bool:
        return offset in self._records

    def get(self, offset: int) -> R | None:
        """A record that is kept; None if it is not."""
        return self._records.get(offset)

    def keep(self, offset: int, record: R, *, anyway: bool = False) -> None:
        """Keeps a record, if there is room or it must be (``anyway``)."""
        if offset not in self._records and (anyway or self._bytes < _MOST_BYTES):
            self._records[offset] = record
            self._bytes += len(record) + _OVERHEAD

    def forget(self, offset: int) -> None:
        """Keeps a record no longer, and wants it no longer."""
        self.wanted.discard(offset)
        if (record := self._records.pop(offset, None)) is not None:
            self._bytes -= len(record) + _OVERHEAD
