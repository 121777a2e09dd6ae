"""What of the state records goes into the cache of results: a fold of each partition, in its order.

The cache holds a partition's fold up to a place, and the place itself, which change together. So it never has what the
topic had not, whoever writes it and however often it begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kafka_exec.core.record.fields import digits
from kafka_exec.core.results.lifecycle import is_settled, split_key
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import Undecodable

#: The shortest time to keep a copy, seconds: caches count in milliseconds.
_SHORTEST = 0.001


@dataclass(frozen=True)
class Place:
    """How far a partition is in the cache.

    Attributes:
        offset: the next one to be taken.
        complete: whether the end was reached since. Before it, a copy may be of what was forgotten later.
    """

    offset: int = 0
    complete: bool = False

    def encode(self) -> bytes:
        """As it stands in the cache."""
        return f"{self.offset}{'' if self.complete else ' filling'}".encode()

    @classmethod
    def decode(cls, value: bytes | None) -> Place:
        """The place that stands in the cache; the beginning if there is none."""
        offset, _, rest = (value or b"").partition(b" ")
        try:
            return cls(digits(offset), not rest)
        except ValueError:
            return cls()


@dataclass(frozen=True)
class Copy:
    """A record's value. ``lifetime``: how long it is to be kept, seconds; None: for ever."""

    value: bytes
    lifetime: float | None


def fold(
    records: Iterable[tuple[bytes | None, bytes | None]], *, expires: float | None, now: float
) -> dict[str, Copy | None]:
    """What records, by their keys and values, change in the cache: by task, its copy; None if there must be none.

    Args:
        expires: how long after its end a result is kept, seconds; None or 0: for ever.
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
        return None  # whoever asks is to be told so by the topic
    if not expires:
        return Copy(value, None)
    lifetime = (now if finished is None else finished) + expires - now
    return Copy(value, lifetime) if lifetime >= _SHORTEST else None
