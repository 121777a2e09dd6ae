"""The dead letters of a queue: reading them, replaying them exactly once, and deleting the oldest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.message.dead import Letter, LetterAddress, Marked, Order, is_mark, mark
from kafka_exec.errors import NoSuchLetter, NotReplayable
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Fetcher, history
from kafka_exec.kafka.publish.batches import publish_once
from kafka_exec.kafka.publish.partitioner import partition_again
from kafka_exec.kafka.publish.scopes import Outgoing

_CLOSING = 1.0

#: Called with the amount that is done, and the amount that there is to do.
OnProgress = Callable[[int, int], None]

# The first and the last offset to read of each partition, the last one excluded.
Spans = Mapping[int, tuple[int, int]]


class Doomed(NamedTuple):
    """The letters that a purge deletes: all before an offset of each partition; and their number."""

    offsets: Mapping[int, int]
    letters: int


def queues_with_letters(topics: Topics, names: Iterable[str]) -> list[str]:
    """The queues that have, or had, dead letters. ``names``: of all topics of the cluster."""
    found = (topics.queue_of_dead(name) for name in names)
    return sorted(name for name in found if name is not None)


class DeadLetters:
    """The dead letters of one queue. Memory: a bit for each letter of a partition. For one thread at a time.

    All methods that read raise ConnectionFailed if the cluster does not answer.
    """

    def __init__(self, cluster: Cluster, topics: Topics, queue: str) -> None:
        self.queue = queue
        self.topic = topics.dead(queue)
        self._cluster = cluster

    # -- reading -------------------------------------------------------------------------------------------------------

    def scan(self, on_progress: OnProgress | None = None) -> Iterator[Letter]:
        """All letters that are there now, partition by partition, each in the order of its offsets."""
        return self._read(self._spans(), on_progress)

    def latest(self, most: int) -> tuple[Iterator[Letter], bool]:
        """The letters among the last records, ``most`` at most; and True if there are more records."""
        spans = self._spans()
        share = most // max(1, len(spans))
        tails = {partition: (max(begin, end - share), end) for partition, (begin, end) in spans.items()}
        return self._read(tails), tails != spans

    def find(self, address: LetterAddress) -> Letter:
        """The letter at an address.

        Raises:
            NoSuchLetter: there is no letter at this address.
        """
        return self._find([address], self._spans())[0]

    def _find(self, addresses: Collection[LetterAddress], spans: Spans) -> list[Letter]:
        """The letters at some addresses, in the order of their offsets."""
        wanted = {}
        for partition, (begin, end) in spans.items():
            offsets = [address.offset for address in addresses if address.partition == partition]
            if offsets:
                wanted[partition] = (max(begin, min(offsets)), end)
        found = [letter for letter in self._read(wanted) if letter.address in addresses]
        missing = set(addresses) - {letter.address for letter in found}
        if missing:
            raise NoSuchLetter(f"queue {self.queue} has no dead letter at {', '.join(map(str, sorted(missing)))}")
        return found

    def _spans(self, *, committed: bool = True) -> Spans:
        """The offsets between which the present letters are.

        Args:
            committed: only letters before the first open transaction, which a killed replay leaves open for some seconds.
                Otherwise all letters, and reading them waits for the end of those transactions.
        """
        number = self._cluster.topics.partitions(self.topic, fresh=True) or 0
        if not number:
            return {}
        fetcher = Fetcher(self._cluster, self.topic)
        try:
            spans = {partition: fetcher.span(partition) for partition in range(number)}
        finally:
            fetcher.close(_CLOSING)
        if not committed:
            return spans
        ends = self._cluster.log.ends(self.topic, spans)
        return {partition: (begin, min(end, ends[partition])) for partition, (begin, end) in spans.items()}

    def _read(self, spans: Spans, on_progress: OnProgress | None = None) -> Iterator[Letter]:
        """Reads each partition twice, since marks stand behind the letters that they are for."""
        before, total = 0, 2 * sum(end - begin for begin, end in spans.values())

        def records(partition: int) -> Iterator[Record]:
            nonlocal before
            begin, end = spans[partition]
            for batch in history(self._cluster, self.topic, partition, end, begin):
                yield from batch
                if on_progress is not None and batch:
                    on_progress(before + batch[-1].offset() + 1 - begin, total)
            before += end - begin

        for partition, (begin, end) in spans.items():
            if begin >= end:
                continue
            marked = Marked(begin, end)
            for record in records(partition):
                if is_mark(record.headers()):
                    marked.take(record.value())
            for record in records(partition):
                if not is_mark(record.headers()):
                    yield _letter(record, replayed=record.offset() in marked)

    # -- replaying -----------------------------------------------------------------------------------------------------

    def chosen(
        self,
        order: Order,
        on_progress: OnProgress | None = None,
        on_refusal: Callable[[NotReplayable], None] | None = None,
    ) -> Iterator[Letter]:
        """The letters that an order means, as they would be replayed.

        Args:
            on_refusal: called for each letter that cannot be replayed. These are passed over, as are those replayed before.

        Raises:
            NoSuchLetter: there is no letter at an address of the order.
            NotReplayable: a letter at such an address cannot be replayed; or the arguments of a letter cannot be replaced.
        """
        return self._choose(order, self._spans(), on_progress, on_refusal)

    def _choose(
        self,
        order: Order,
        spans: Spans,
        on_progress: OnProgress | None = None,
        on_refusal: Callable[[NotReplayable], None] | None = None,
    ) -> Iterator[Letter]:
        found = self._find(order.addresses, spans) if order.addresses else self._read(spans, on_progress)
        known: dict[str, int | None] = {}
        for letter in found:
            if not order.matches(letter) or (letter.replayed and not order.again):
                continue
            if (obstacle := self._obstacle(letter, known)) is not None:
                refusal = NotReplayable(f"letter {letter.address} of {self.queue} cannot be replayed: {obstacle}")
                if order.addresses:
                    raise refusal
                if on_refusal is not None:
                    on_refusal(refusal)
                continue
            yield letter.with_arguments(order.args, order.kwargs)

    def _obstacle(self, letter: Letter, known: dict[str, int | None]) -> str | None:
        """The reason why a letter cannot be replayed, or None. ``known``: the partitions of topics that were looked up."""
        if letter.origin is None or letter.obstacle is not None:
            return letter.obstacle
        topic = letter.origin.topic
        if topic not in known:
            known[topic] = self._cluster.topics.partitions(topic, fresh=True)
        return None if known[topic] else f"its topic {topic} does not exist: declare the queue first"

    def replay(
        self, order: Order, *, rate: float | None = None, on_progress: Callable[[int], None] | None = None
    ) -> int:
        """Publishes letters to the topics they came from, key, value and headers as they were, but no retries; their number.

        Each letter is replayed exactly once, even if replays are killed, or several run at once: each batch of letters is
        one transaction with the marks of these letters, and they are read when no other replay can write any more.

        Args:
            rate: letters a second at most.
            on_progress: called with the number of letters replayed so far, after each batch.

        Raises:
            NoSuchLetter, NotReplayable: of letters at addresses of the order; nothing was replayed.
            NotReplayable: the cluster refuses a batch; those before it were replayed.
            NotConfirmed: the cluster does not answer, or another replay of this queue has begun. Do it again.
        """
        return publish_once(
            self._cluster,
            f"{self.topic}.replay",
            lambda: self._choose(order, self._spans(committed=False)),
            self._records,
            rate=rate,
            on_progress=on_progress,
        )

    def _records(self, batch: Sequence[Letter]) -> list[Outgoing]:
        records, offsets = [], defaultdict[int, list[int]](list)
        for letter in batch:
            if (origin := letter.origin) is not None:
                partitions = self._cluster.topics.partitions(origin.topic) or 0
                headers = letter.headers_again(self.topic)
                partition = partition_again(headers, letter.key, partitions)
                if letter.key is None and origin.partition < partitions:
                    partition = origin.partition  # without a key only its partition keeps its order
                records.append(Outgoing(origin.topic, letter.value_again, letter.key, headers, partition))
                offsets[letter.address.partition].append(letter.address.offset)
        marks = ((partition, *mark(some)) for partition, some in offsets.items())
        return records + [Outgoing(self.topic, value, None, headers, number) for number, value, headers in marks]

    # -- deleting ------------------------------------------------------------------------------------------------------

    def older(self, before: float | None = None, on_progress: OnProgress | None = None) -> Doomed:
        """The letters that were written before a time, epoch seconds; without a time all present letters."""
        spans = {}
        for partition, (begin, end) in self._spans().items():
            if before is not None:
                end = min(end, self._cluster.log.begin(self.topic, partition, before))
            if begin < end:
                spans[partition] = (begin, end)
        letters = sum(1 for _ in self._read(spans, on_progress))
        return Doomed({partition: end for partition, (_, end) in spans.items()}, letters)

    def purge(self, doomed: Doomed) -> None:
        """Deletes letters for good. Kafka deletes from the beginning of a partition on, so only by age."""
        self._cluster.topics.truncate(self.topic, doomed.offsets)


def _letter(record: Record, *, replayed: bool) -> Letter:
    return Letter(
        LetterAddress(record.partition(), record.offset()),
        record.timestamp()[1] / 1000,
        record.key(),
        record.value(),
        headers=list(record.headers() or ()),
        replayed=replayed,
    )
