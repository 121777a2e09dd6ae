"""The messages of one level of delays that were moved: all below a position, and single ones ahead of their time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from kafka_exec.core.record.fields import MOST_PARTITIONS, a_list, an_object, digits, from_json, whole

#: So many messages of a level are moved ahead of their time at most, until the others before them have moved.
MOST_AHEAD = 10_000

_KEY = "move-ahead"


class Moved(NamedTuple):
    """The messages of a level that were moved.

    Attributes:
        position: all messages below this offset were moved.
        ahead: the offsets of messages behind it that were moved too, since somebody has asked for it.
    """

    position: int = 0
    ahead: frozenset[int] = frozenset()

    def has(self, offset: int) -> bool:
        """True if a message was moved."""
        return offset < self.position or offset in self.ahead

    def up_to(self, position: int) -> Moved:
        """The same, with all messages below a position."""
        while position in self.ahead:
            position += 1
        return Moved(position, frozenset(each for each in self.ahead if each > position))

    def and_ahead(self, offsets: Iterable[int]) -> Moved:
        """The same, with some messages that are moved ahead of their time."""
        return Moved(self.position, self.ahead.union(offsets)).up_to(self.position)

    def encode(self) -> bytes:
        """The value of a record of the positions: the position, and the runs of offsets ahead of it, as ``12 15 17-20``."""
        runs = (f"{first}-{last}" if first < last else f"{first}" for first, last in _runs(sorted(self.ahead)))
        return " ".join([f"{self.position}", *runs]).encode()

    @classmethod
    def decode(cls, value: bytes | None, end: int) -> Moved:
        """The inverse of :meth:`encode`.

        Args:
            end: the end of the level: no message behind it was moved.

        Raises:
            ValueError: the value is none, or names messages that are not there.
        """
        position, *runs = (value or b"").split(b" ")
        found = cls(whole(digits(position), most=end))
        ahead: set[int] = set()
        for run in runs:
            first, _, last = run.partition(b"-")
            begin, stop = whole(digits(first), most=end), whole(digits(last or first), most=end)
            if len(ahead) + stop - begin >= MOST_AHEAD:
                raise ValueError("too many messages are ahead")
            ahead.update(range(begin, stop + 1))
        return found.and_ahead(ahead)


def _runs(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of consecutive offsets, which ascend."""
    first = last = -1
    for offset in offsets:
        if offset != last + 1 or first < 0:
            if first >= 0:
                yield first, last
            first = offset
        last = offset
    if first >= 0:
        yield first, last


def encode_request(places: Mapping[int, Collection[int]]) -> bytes:
    """The value of a record in the log of heartbeats: it asks who drives some levels to move messages ahead of their time.

    Args:
        places: the offsets of the messages, by level.
    """
    return json.dumps({_KEY: [[level, *offsets] for level, offsets in places.items()]}, separators=(",", ":")).encode()


def decode_request(value: bytes | None) -> dict[int, list[int]]:
    """The inverse of :func:`encode_request`; empty if the value has another format."""
    try:
        asked = [a_list(each) for each in a_list(an_object(from_json(value))[_KEY])]
        return {whole(level, most=MOST_PARTITIONS): [whole(each) for each in offsets] for level, *offsets in asked}
    except (ValueError, KeyError):
        return {}
