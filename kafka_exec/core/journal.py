"""What is known of one partition of a work queue: which offsets are finished, and so where a new owner begins.

An offset names the *next* record. What is committed is the lowest unfinished one; ends above it travel in the commit's
metadata, as far as they fit, so that a new owner does not run them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

#: Kafka's default ``offset.metadata.max.bytes`` is 4096: what is longer is refused with the whole commit.
LONGEST_METADATA = 4000

_FORMAT = "1"


@dataclass
class Progress:
    """A fold of records received and ended, in any order.

    Attributes:
        low: the lowest unfinished offset: the one to commit.
        high: the next offset not yet seen.
        delivered: the next offset never given to a consumer, by this or an earlier owner: below it a delivery is a
            redelivery.
    """

    low: int
    high: int = -1
    delivered: int = -1
    _done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.high = max(self.high, self.low)
        self.delivered = max(self.delivered, self.low)

    def receive(self, offset: int) -> bool:
        """Notes a record that was read. False: it needs no run, since it had ended before.

        A gap below it (a compacted, deleted or transactional record) counts as done.
        """
        if offset < self.low or offset in self._done:
            self.high = max(self.high, offset + 1)
            return False
        if offset > self.high:
            if self.low == self.high:
                self.low = offset
            else:
                self._done.update(range(self.high, offset))
        self.high = max(self.high, offset + 1)
        return True

    def deliver(self, offset: int) -> bool:
        """Notes that a record was given to a consumer. True: it may have been given to one before."""
        if offset < self.delivered:
            return True
        self.delivered = offset + 1
        return False

    def end(self, offset: int) -> None:
        """Notes that a record is finished, in any order; an end told twice changes nothing."""
        if offset < self.low:
            return
        self._done.add(offset)
        while self.low in self._done:
            self._done.discard(self.low)
            self.low += 1

    def metadata(self) -> str:
        """The text committed with :attr:`low`: format, delivered mark, and runs of ends above ``low`` as far as they fit."""
        text = f"{_FORMAT} {self.delivered - self.low}"
        for first, last in _runs(sorted(self._done)):
            run = f" {first - self.low}" + (f"-{last - self.low}" if last > first else "")
            if len(text) + len(run) > LONGEST_METADATA:
                break
            text += run
        return text

    @classmethod
    def restore(cls, offset: int, metadata: str | None) -> Progress:
        """The progress that was committed. Metadata of others is ignored: that costs repeated runs, never a loss."""
        try:
            version, delivered, *runs = (metadata or "").split()
            if version != _FORMAT:
                return cls(low=offset)
            done = {
                offset + ended
                for run in runs
                for first, _, last in [run.partition("-")]
                for ended in range(int(first), int(last or first) + 1)
            }
            return cls(low=offset, delivered=offset + int(delivered), _done=done)
        except ValueError:
            return cls(low=offset)


def _runs(offsets: list[int]) -> Iterator[tuple[int, int]]:
    start = previous = None
    for offset in offsets:
        if start is None or previous is None:
            start = offset
        elif offset != previous + 1:
            yield start, previous
            start = offset
        previous = offset
    if start is not None and previous is not None:
        yield start, previous
