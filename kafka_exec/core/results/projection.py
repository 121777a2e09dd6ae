"""The projection of state records into the cache of results: a fold of each partition, in its order.

The cache holds the fold of a partition up to a place, and that place. Both change together, so the cache never holds a
result that the topic did not have, whichever worker writes it, and however often one begins again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kafka_exec.core.record.fields import digits
from kafka_exec.core.results.lifecycle import is_settled, split_key
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import Undecodable

#: The shortest time for which a copy is kept, seconds: caches count in milliseconds.
_SHORTEST = 0.001


@dataclass(frozen=True)
class LogPosition:
    """The place in a partition up to which the cache holds it.

    Attributes:
        offset: the next offset to fold.
        complete: the end of the partition was reached. Before that, the cache may hold results that were deleted later.
    """

    offset: int = 0
    complete: bool = False

    def encode(self) -> bytes:
        """The place as the cache holds it."""
        return f"{self.offset}{'' if self.complete else ' filling'}".encode()

    @classmethod
    def decode(cls, value: bytes | None) -> LogPosition:
        """The place that the cache holds; the beginning of the partition if it holds none."""
        offset, _, rest = (value or b"").partition(b" ")
        try:
            return cls(digits(offset), not rest)
        except ValueError:
            return cls()


@dataclass(frozen=True)
class Copy:
    """A copy of a record's value. ``lifetime``: the time for which it is kept, seconds; None: for ever."""

    value: bytes
    lifetime: float | None


def fold(
    records: Iterable[tuple[bytes | None, bytes | None]], *, expires: float | None, now: float
) -> dict[str, Copy | None]:
    """The changes that records make in the cache: the copy of each task; None if the cache must have none.

    Args:
        records: the keys and values of the records.
        expires: the time for which a result is kept after the task's end, seconds; None or 0: for ever.
        now: epoch seconds.
    """
    found: dict[str, Copy | None] = {}
    for key, value in records:
        try:
            task_id, rank = split_key((key or b"").decode())
        except UnicodeDecodeError:
            continue
        if task_id and is_settled(rank):
            found[task_id] = None if value is None else _copy(value, expires, now)
    return found


def _copy(value: bytes, expires: float | None, now: float) -> Copy | None:
    try:
        finished = StateRecord.decode(value).finished
    except Undecodable:
        return None  # a caller reads the topic instead, and gets the error there
    if not expires:
        return Copy(value, None)
    lifetime = (now if finished is None else finished) + expires - now
    return Copy(value, lifetime) if lifetime >= _SHORTEST else None
