"""The counts of all queues, from the commits of their groups, their journals, and their unfinished records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka import Message as Record
from confluent_kafka.admin import OffsetSpec

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.core.control.delay import DelayHeaders
from kafka_exec.core.message.envelope import ticket_of
from kafka_exec.core.nodes.heartbeat import NodeState, Seen, roll
from kafka_exec.core.overview.counts import QueueCounts, QueueRecord, counts_of
from kafka_exec.core.overview.queues import QueueReport, report
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.restoring import JournalEntry, restore
from kafka_exec.core.record.fields import digits
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.client.offsets import committed
from kafka_exec.kafka.cluster.admin import TIMEOUT, Admin, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import histories
from kafka_exec.kafka.nodes.node import heard
from kafka_exec.kafka.queue.dead import DeadLetters

#: The most unfinished records that are read of each topic: more of them count as ready tasks, unread.
_MOST = 10_000

#: A level's position is looked for in so many records at the end of its positions.
_TAIL = 500

#: The rate of a queue is that of so many seconds.
_MINUTE = 60.0

#: Nodes count that were heard in so many seconds.
_HEARD_WITHIN = 3600.0

Place = tuple[str, int]


class QueueFigures(NamedTuple):
    """The figures of a queue that stand in Kafka.

    Attributes:
        rate: the messages that came in a second, on the average of the last minute.
    """

    counts: QueueCounts
    rate: float


class Survey(NamedTuple):
    """The queues of a prefix, sorted by name, and the nodes that were heard in the last hour, with their states."""

    queues: list[QueueReport]
    nodes: list[tuple[Seen, NodeState]]


class Overview:
    """Reads the figures of the queues of one prefix. It joins no group, and asks no worker."""

    def __init__(self, cluster: Cluster, topics: Topics) -> None:
        self._cluster = cluster
        self._topics = topics

    def survey(self, now: float, queues: Collection[str] = ()) -> Survey:
        """The queues and nodes of now (epoch seconds). ``queues``: only these; all if none is named.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        beats = heard(self._cluster, nodes_topic(self._topics), now - _HEARD_WITHIN)
        nodes = roll(beats, now=now, period=self._cluster.settings.heartbeat)
        alive = [seen.beat for seen, state in nodes if state is NodeState.ALIVE]
        living = {beat.incarnation for beat in alive}
        figures = self.figures(queues or self.names(), living.__contains__, now)
        delayed = self.delayed()
        reports = [
            report(name, found, alive, delayed=delayed.get(name, 0), dead=self._dead(name), rate=rate)
            for name, (found, rate) in sorted(figures.items())
        ]
        return Survey(reports, nodes)

    def _dead(self, queue: str) -> int:
        letters = DeadLetters(self._cluster, self._topics, queue).scan()
        return sum(not letter.replayed for letter in letters)

    def names(self) -> list[str]:
        """The names of all work queues.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        return sorted({name for name, _ in self._queue_topics()})

    def figures(self, queues: Collection[str], lives: Callable[[str], bool], now: float) -> dict[str, QueueFigures]:
        """The figures of some queues.

        Args:
            lives: returns True for an incarnation that is alive.
            now: epoch seconds.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        return native.call(self._figures, queues, lives, now)

    def delayed(self) -> dict[str, int]:
        """The number of messages that wait in Kafka for their time, by the queue to which they go then.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        return native.call(self._delayed)

    def _queue_topics(self) -> dict[tuple[str, int], str]:
        found = ((self._topics.queue_of(topic), topic) for topic in self._cluster.topics.names())
        return {place: topic for place, topic in found if place is not None}

    def _figures(self, queues: Collection[str], lives: Callable[[str], bool], now: float) -> dict[str, QueueFigures]:
        topics = {place: topic for place, topic in self._queue_topics().items() if place[0] in queues}
        journals = {topic: self._topics.journal(*place) for place, topic in topics.items()}
        with within(TIMEOUT), administration(self._cluster) as admin:
            # In this order: what is told of a record stands behind it, so no task seems to be unfinished that has ended.
            ids = self._cluster.topics.identities(list(topics.values()))
            places = self._places(topics.values())
            begins, ends = _spans(admin, places)
            before = admin.offsets(places, OffsetSpec.for_timestamp(int((now - _MINUTE) * 1000)))
            progress = self._progress(topics.values(), ids)
            journal_begins, journal_ends = _spans(admin, self._places(journals.values()))
        found: dict[str, QueueFigures] = {}
        heard = self._read_journals(journals, progress, journal_begins, journal_ends)
        ledgers = {
            (topic, number): restore(ids[topic], heard.get((journals[topic], number), ()), known)[0]
            for (topic, number), known in progress.items()
        }
        wanted, counts = {}, Counter(topic for topic, _ in ledgers)
        for (topic, number), ledger in ledgers.items():
            begin, end = max(ledger.progress.low, begins[topic, number]), ends[topic, number]
            wanted[topic, number] = (begin, min(end, begin + _MOST // counts[topic]))
        records = self._read_records(wanted)
        for (name, _), topic in topics.items():
            total, came = QueueCounts(), 0
            for number in (number for each, number in ledgers if each == topic):
                ledger, (_, read), end = ledgers[topic, number], wanted[topic, number], ends[topic, number]
                left = ledger.progress.unfinished(read, end)
                total += counts_of(ledger, records[topic, number], left, lives)
                since = before.get((topic, number), -1)
                came += end - since if since >= 0 else 0
            former = found.get(name, QueueFigures(QueueCounts(), 0.0))
            found[name] = QueueFigures(former.counts + total, former.rate + came / _MINUTE)
        return found

    def _places(self, topics: Iterable[str]) -> list[TopicPartition]:
        numbers = {topic: self._cluster.topics.partitions(topic, fresh=True) or 0 for topic in topics}
        return [TopicPartition(topic, number) for topic, count in numbers.items() for number in range(count)]

    def _progress(self, topics: Iterable[str], ids: Mapping[str, str]) -> dict[Place, Progress | None]:
        """The commit of each partition; None: there is none, or it is of a former topic of this name."""
        found: dict[Place, Progress | None] = {}
        for topic in topics:
            consumer = self._cluster.new_consumer({"group.id": topic})
            try:
                for each in committed(consumer, self._places([topic]), TIMEOUT):
                    known = None if each.offset < 0 else Progress.restore(each.offset, each.metadata, ids[topic])
                    found[topic, each.partition] = known
            finally:
                consumer.close()
                self._cluster.forget(consumer)
        return found

    def _read_journals(
        self,
        journals: Mapping[str, str],
        progress: Mapping[Place, Progress | None],
        begins: Mapping[Place, int],
        ends: Mapping[Place, int],
    ) -> dict[Place, list[JournalEntry]]:
        spans = {}
        for (topic, number), known in progress.items():
            place = (journals[topic], number)
            if place in ends:
                spans[place] = (max(begins[place], 0 if known is None else known.folded), ends[place])
        found: dict[Place, list[JournalEntry]] = defaultdict(list)
        for batch in histories(self._cluster, spans):
            for record in batch:
                found[record.topic(), record.partition()].append(JournalEntry(record.offset(), record.value()))
        return found

    def _read_records(self, spans: Mapping[Place, tuple[int, int]]) -> dict[Place, list[QueueRecord]]:
        found: dict[Place, list[QueueRecord]] = defaultdict(list)
        for batch in histories(self._cluster, spans):
            for record in batch:
                found[record.topic(), record.partition()].append(_queue_record(record))
        return found

    def _delayed(self) -> dict[str, int]:
        names = self._cluster.topics.names()
        waiting, positions = self._topics.delay, self._topics.delay_state
        if waiting not in names:
            return {}
        with within(TIMEOUT), administration(self._cluster) as admin:
            begins, ends = _spans(admin, self._places([waiting]))
            tails, told = _spans(admin, self._places([positions])) if positions in names else ({}, {})
        moved: dict[int, int] = {}
        for batch in histories(self._cluster, {p: (max(tails[p], told[p] - _TAIL), told[p]) for p in told}):
            for record in batch:
                moved[record.partition()] = _position(record, moved.get(record.partition(), 0))
        spans = {place: (max(begins[place], moved.get(place[1], 0)), end) for place, end in ends.items()}
        found: dict[str, int] = defaultdict(int)
        for batch in histories(self._cluster, spans):
            for record in batch:
                if (queue := _queue_of_delayed(record)) is not None:
                    found[queue] += 1
        return dict(found)


def _spans(admin: Admin, places: list[TopicPartition]) -> tuple[dict[Place, int], dict[Place, int]]:
    """The first offset of each partition, and the one after its last committed record."""
    begins = admin.offsets(places, OffsetSpec.earliest())
    return begins, admin.offsets(places, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)


def _queue_record(record: Record) -> QueueRecord:
    try:
        ticket = ticket_of(record.headers(), record.value(), record.topic(), record.partition())
    except Exception:  # a worker makes a dead letter of it
        ticket = None
    return QueueRecord(record.offset(), record.timestamp()[1] / 1000, ticket)


def _position(record: Record, before: int) -> int:
    try:
        return digits(record.value())
    except ValueError:
        return before


def _queue_of_delayed(record: Record) -> str | None:
    try:
        return DelayHeaders.read(record.headers())[0].queue
    except Undecodable:
        return None  # its owner passes it over
