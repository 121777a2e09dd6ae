"""The progress of a partition as plain sets."""

from __future__ import annotations


class PlainProgress:
    def __init__(self, start: int) -> None:
        self.ended = set(range(start))
        self.seen = set(range(start))
        self.given = set(range(start))

    @property
    def low(self) -> int:
        return next(offset for offset in range(len(self.ended) + 1) if offset not in self.ended)

    @property
    def high(self) -> int:
        return max(self.low, max(self.seen, default=-1) + 1)

    def receive(self, offset: int) -> bool:
        self.ended |= set(range(self.high, offset))
        self.seen |= set(range(offset + 1))
        return offset not in self.ended

    def deliver(self, offset: int) -> bool:
        again = offset in self.given
        self.given |= set(range(offset + 1))
        return again

    def end(self, offset: int) -> None:
        self.ended.add(offset)

    def restore(self) -> None:
        """A new owner knows what ended and what was given away, but has read nothing itself."""
        self.seen = set(range(self.low))
        self.given |= set(range(self.low))

    def reach(self, end: int) -> bool:
        news = end > self.high
        self.ended |= set(range(self.high, end)) if news else set()
        self.seen |= set(range(end))
        return news

    def merge(self, other: PlainProgress) -> None:
        self.ended |= other.ended
        self.given |= other.given
        self.seen |= set(range(self.low))
