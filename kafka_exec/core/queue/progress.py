"""What is known of one partition of a work queue: which offsets are finished, and so where a new owner begins.

An offset names the *next* record. What is committed is the lowest unfinished one; ends above it travel in the commit's
metadata, as far as they fit, so that a new owner does not run them again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

from kafka_exec.core.record.fields import a_list, digits, whole

#: Kafka's default ``offset.metadata.max.bytes`` is 4096: what is longer is refused with the whole commit.
LONGEST_METADATA = 4000

_FORMAT = "2"


@dataclass
class Progress:
    """A fold of records received and ended, in any order.

    Attributes:
        low: the lowest unfinished offset: the one to commit.
        high: the next offset not yet seen.
        delivered: the next offset never given to a consumer, by this or an earlier owner: below it a delivery is a
            redelivery.
        checkpoint: where in the partition's journal the rest of what is known begins.
    """

    low: int
    high: int = -1
    delivered: int = -1
    checkpoint: int = 0
    # Ended offsets above low, as runs [start, stop): ascending, apart from one another.
    _starts: list[int] = field(default_factory=list)
    _stops: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.high = max(self.high, self.low)
        self.delivered = max(self.delivered, self.low)

    def receive(self, offset: int) -> bool:
        """Notes a record that was read. False: it needs no run, since it had ended before.

        A gap below it (a compacted, deleted or transactional record) counts as done.
        """
        if offset > self.high:
            self._finish(self.high, offset)
        self.high = max(self.high, offset + 1)
        return not self.has_ended(offset)

    def has_ended(self, offset: int) -> bool:
        """Whether a record is finished."""
        if offset < self.low:
            return True
        run = bisect_right(self._starts, offset) - 1
        return run >= 0 and offset < self._stops[run]

    def reach(self, end: int) -> bool:
        """Notes that all records before ``end`` were read. True: there were some that nobody sees, and they count as done.

        Such are the markers by which transactions end.
        """
        if end <= self.high:
            return False
        self._finish(self.high, end)
        self.high = max(self.high, end)
        return True

    def deliver(self, offset: int) -> bool:
        """Notes that a record was given to a consumer. True: it may have been given to one before."""
        if offset < self.delivered:
            return True
        self.delivered = offset + 1
        return False

    def end(self, offset: int) -> None:
        """Notes that a record is finished, in any order; an end told twice changes nothing."""
        if offset >= self.low:
            self._finish(offset, offset + 1)

    def _finish(self, start: int, stop: int) -> None:
        starts, stops = self._starts, self._stops
        first = bisect_left(stops, start)  # the first run that is not wholly below, with a gap
        last = bisect_right(starts, stop)  # the first run that is wholly above, with a gap
        if first < last:
            start, stop = min(start, starts[first]), max(stop, stops[last - 1])
        starts[first:last], stops[first:last] = [start], [stop]
        if starts[0] <= self.low:
            self.low = stops.pop(0)
            del starts[0]
            self.high = max(self.high, self.low)

    def merge(self, other: Progress) -> None:
        """Adds what is known of the same partition from elsewhere: an end is an end, whoever saw it."""
        if other.low > self.low:
            self._finish(self.low, other.low)
        for start, stop in zip(other._starts, other._stops, strict=True):
            if stop > self.low:
                self._finish(max(start, self.low), stop)
        self.high = max(self.high, self.low)
        self.delivered = max(self.delivered, other.delivered)
        self.checkpoint = max(self.checkpoint, other.checkpoint)

    def differs(self, committed: Progress) -> bool:
        """Whether it would be committed as something else than what was."""
        return (self.low, self.metadata()) != (committed.low, committed.metadata())

    def metadata(self) -> str:
        """The text committed with :attr:`low`: format, checkpoint, delivered mark, and the ends above it that fit."""
        text = f"{_FORMAT} {self.checkpoint} {max(0, self.delivered - self.low)}"
        for start, stop in zip(self._starts, self._stops, strict=True):
            run = f" {start - self.low}" + (f"-{stop - 1 - self.low}" if stop - start > 1 else "")
            if len(text) + len(run) > LONGEST_METADATA:
                break
            text += run
        return text

    def as_json(self) -> list[Any]:
        """All of it, however long."""
        return [self.low, self.high, self.delivered, self._starts, self._stops]

    @classmethod
    def from_json(cls, found: Any) -> Progress:
        """The inverse of :meth:`as_json`.

        Raises:
            ValueError: it is something else.
        """
        low, high, delivered, starts, stops = a_list(found)
        progress = cls(low=whole(low), high=whole(high), delivered=whole(delivered))
        for start, stop in zip(map(whole, a_list(starts)), map(whole, a_list(stops)), strict=True):
            if not progress.low < start < stop:
                raise ValueError("ended runs are above what is committed")
            progress._finish(start, stop)
        return progress

    @classmethod
    def restore(cls, offset: int, metadata: str | None) -> Progress:
        """The progress that was committed. Metadata of others is ignored: that costs repeated runs, never a loss."""
        try:
            version, checkpoint, delivered, *runs = (metadata or "").split()
            if version != _FORMAT:
                return cls(low=offset)
            found = cls(low=offset, delivered=offset + digits(delivered), checkpoint=digits(checkpoint))
            edge = 0
            for run in runs:
                first, _, last = run.partition("-")
                start, stop = digits(first), digits(last or first) + 1
                if start <= edge or stop <= start:
                    raise ValueError("runs are ascending and apart")
                found._starts.append(offset + start)
                found._stops.append(offset + stop)
                edge = stop
            return found
        except ValueError:
            return cls(low=offset)
