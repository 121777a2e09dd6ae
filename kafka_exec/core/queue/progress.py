"""The progress of one partition of a work queue: the offsets that are finished, and the one at which a new owner begins.

The owner commits the lowest unfinished offset. The finished offsets above it go into the commit's metadata, as far as they
fit, so that a new owner does not run their tasks again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kafka_exec.core.record.fields import a_list, digits, whole

#: Kafka refuses a commit with longer metadata; the default of its ``offset.metadata.max.bytes`` is 4096.
LONGEST_METADATA = 4000

#: The formats of metadata: the first one named no topic, and no offset up to which a checkpoint had folded the journal.
_BEFORE, _FORMAT = "2", "3"


@dataclass
class Progress:
    """A fold of the records that were read and that have ended, in any order.

    Attributes:
        low: the lowest unfinished offset, which is committed.
        high: the lowest offset that was not read yet.
        delivered: the lowest offset that no owner has given to a consumer yet; a delivery below it is a redelivery.
        checkpoint: the offset of a checkpoint in the partition's journal.
        folded: the offset in the journal at which a new owner begins to read: the checkpoint holds all before it, and may
            lack records that other processes have written after it.
    """

    low: int
    high: int = -1
    delivered: int = -1
    checkpoint: int = 0
    folded: int = 0
    # The ended offsets above low, as runs [start, stop): ascending, with gaps between them.
    _starts: list[int] = field(default_factory=list)
    _stops: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.high = max(self.high, self.low)
        self.delivered = max(self.delivered, self.low)

    def receive(self, offset: int) -> bool:
        """Notes a record that was read. Returns False if it has ended before, and needs no run.

        A gap below it (compacted or deleted records, transaction markers) counts as ended.
        """
        if offset > self.high:
            self._finish(self.high, offset)
        self.high = max(self.high, offset + 1)
        return not self.has_ended(offset)

    def has_ended(self, offset: int) -> bool:
        """True if a record has ended."""
        if offset < self.low:
            return True
        run = bisect_right(self._starts, offset) - 1
        return run >= 0 and offset < self._stops[run]

    def reach(self, end: int) -> bool:
        """Notes that all records before ``end`` were read. Returns True if there were invisible ones, which count as ended.

        Invisible records are the markers with which transactions end.
        """
        if end <= self.high:
            return False
        self._finish(self.high, end)
        self.high = max(self.high, end)
        return True

    def unfinished(self, begin: int, end: int) -> int:
        """The number of offsets between two that have not ended."""
        begin = max(begin, self.low)
        ended = (min(end, stop) - max(begin, start) for start, stop in zip(self._starts, self._stops, strict=True))
        return max(0, end - begin - sum(each for each in ended if each > 0))

    def deliver(self, offset: int) -> bool:
        """Notes that a record was given to a consumer. Returns True if that may be a redelivery."""
        if offset < self.delivered:
            return True
        self.delivered = offset + 1
        return False

    def end(self, offset: int) -> None:
        """Notes that a record has ended, in any order. A second call changes nothing."""
        if offset >= self.low:
            self._finish(offset, offset + 1)

    def void(self, offset: int) -> None:
        """Forgets all ends from an offset on: the log was truncated there, and has other records now."""
        first = bisect_left(self._stops, offset + 1)
        self._starts, self._stops = self._starts[: first + 1], self._stops[: first + 1]
        if self._stops and self._stops[-1] > offset:
            start, _ = self._starts.pop(), self._stops.pop()
            if start < offset:
                self._starts.append(start)
                self._stops.append(offset)
        self.low, self.high = min(self.low, offset), min(self.high, offset)
        self.delivered = max(self.low, min(self.delivered, offset))

    def thin(self, most: int) -> None:
        """Forgets the lowest ends above ``low``, all but ``most`` runs of them, when there are twice as many."""
        if len(self._starts) >= 2 * most:
            del self._starts[:-most], self._stops[:-most]

    def _finish(self, start: int, stop: int) -> None:
        starts, stops = self._starts, self._stops
        first = bisect_left(stops, start)  # all runs before this one end below start, with a gap
        last = bisect_right(starts, stop)  # this run and all after it begin above stop, with a gap
        if first < last:
            start, stop = min(start, starts[first]), max(stop, stops[last - 1])
        starts[first:last], stops[first:last] = [start], [stop]
        if starts[0] <= self.low:
            self.low = stops.pop(0)
            del starts[0]
            self.high = max(self.high, self.low)

    def merge(self, other: Progress) -> None:
        """Adds the ends that another source has seen of the same partition, but not its checkpoint: it may be an old one."""
        if other.low > self.low:
            self._finish(self.low, other.low)
        for start, stop in zip(other._starts, other._stops, strict=True):
            if stop > self.low:
                self._finish(max(start, self.low), stop)
        self.high = max(self.high, self.low)
        self.delivered = max(self.delivered, other.delivered)

    def check_in(self, checkpoint: int, folded: int) -> None:
        """Notes a checkpoint in the journal, and the offset up to which it has folded the journal. The last one counts.

        It holds also what those before it have folded.
        """
        if checkpoint >= self.checkpoint:
            self.checkpoint, self.folded = checkpoint, max(self.folded, min(folded, checkpoint))

    def without(self, offsets: Iterable[int]) -> Progress:
        """A copy of this progress in which some records have not ended."""
        open_ = sorted(offset for offset in offsets if self.has_ended(offset))
        found = Progress(low=min([self.low, *open_[:1]]), high=self.high, delivered=self.delivered)
        found.checkpoint, found.folded = self.checkpoint, self.folded
        for start, stop in [(found.low, self.low), *zip(self._starts, self._stops, strict=True)]:
            for offset in open_[bisect_left(open_, start) : bisect_left(open_, stop)]:
                if start < offset:
                    found._finish(start, offset)
                start = offset + 1
            if start < stop:
                found._finish(start, stop)
        return found

    def differs(self, committed: Progress) -> bool:
        """True if a commit of this progress would differ from the last one."""
        return (self.low, self.metadata()) != (committed.low, committed.metadata())

    def metadata(self, queue: str = "") -> str:
        """The text that is committed with :attr:`low`: as many ended runs as fit behind what else a new owner must know.

        Args:
            queue: the id of the queue's topic, without which an offset means nothing.
        """
        text = f"{_FORMAT} {queue or '-'} {self.checkpoint} {self.checkpoint - self.folded} "
        text += f"{max(0, self.delivered - self.low)}"
        for start, stop in zip(self._starts, self._stops, strict=True):
            run = f" {start - self.low}" + (f"-{stop - 1 - self.low}" if stop - start > 1 else "")
            if len(text) + len(run) > LONGEST_METADATA:
                break
            text += run
        return text

    def as_json(self) -> list[Any]:
        """The whole progress as a JSON value, of any length."""
        return [self.low, self.high, self.delivered, self._starts, self._stops]

    @classmethod
    def from_json(cls, found: Any) -> Progress:
        """The inverse of :meth:`as_json`.

        Raises:
            ValueError: the value has another form.
        """
        low, high, delivered, starts, stops = a_list(found)
        progress = cls(low=whole(low), high=whole(high), delivered=whole(delivered))
        for start, stop in zip(map(whole, a_list(starts)), map(whole, a_list(stops)), strict=True):
            if not progress.low < start < stop:
                raise ValueError("ended runs are above what is committed")
            progress._finish(start, stop)
        return progress

    @classmethod
    def restore(cls, offset: int, metadata: str | None, queue: str = "") -> Progress | None:
        """The progress in a commit; None if it is of another topic, which had the queue's name before.

        Metadata of an unknown format is ignored: that costs repeated runs, never a loss.

        Args:
            queue: the id of the queue's topic; empty: any.
        """
        version, *fields = (metadata or "").split() or [""]
        if version == _FORMAT and fields:
            if queue and fields[0] not in ("-", queue):
                return None
            fields = fields[1:]
        elif version == _BEFORE and fields:
            fields.insert(1, "0")
        else:
            return cls(low=offset)
        try:
            checkpoint, behind, delivered, *runs = fields
            found = cls(low=offset, delivered=offset + digits(delivered))
            found.check_in(digits(checkpoint), max(0, digits(checkpoint) - digits(behind)))
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
