"""Reading the records of topics: all of them, or those between two times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka import Message as Record
from confluent_kafka.admin import OffsetSpec

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.overview.audit import JournalEvent
from kafka_exec.core.queue.transitions import object_of, transitions_of
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.cluster.admin import TIMEOUT, Admin, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Spans, histories

T = TypeVar("T")

#: A topic and the number of a partition.
Place = tuple[str, int]

#: The topics of queues, by name and priority step.
QueueTopics = Mapping[tuple[str, int], str]


@dataclass(frozen=True)
class Layout:
    """The topics of a cluster at one time. ``counts``: the number of partitions of each."""

    counts: Mapping[str, int]

    def queues(self, names: Topics, queues: Collection[str] | None = None) -> QueueTopics:
        """The topics of some queues, or of all."""
        found = ((names.queue_of(topic), topic) for topic in self.counts)
        return {place: topic for place, topic in found if place is not None and (queues is None or place[0] in queues)}

    def queue_names(self, names: Topics) -> list[str]:
        """The names of all work queues."""
        return sorted({name for name, _ in self.queues(names)})

    def places(self, *topics: str) -> list[TopicPartition]:
        """All partitions of some topics; none of those that do not exist."""
        return [TopicPartition(topic, number) for topic in topics for number in range(self.counts.get(topic, 0))]


def layout_of(cluster: Cluster) -> Layout:
    """The topics of now.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    return Layout(native.call(cluster.topics.counts))


def read(cluster: Cluster, bounds: Spans, make: Callable[[Record], T]) -> dict[Place, list[T]]:
    """Something made of each record between two offsets of some partitions, in their order.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    found: dict[Place, list[T]] = defaultdict(list)
    for batch in histories(cluster, bounds):
        for record in batch:
            found[record.topic(), record.partition()].append(make(record))
    return found


def spans(admin: Admin, wanted: list[TopicPartition]) -> tuple[dict[Place, int], dict[Place, int]]:
    """The first offset of each partition, and the one after its last committed record."""
    begins = admin.offsets(wanted, OffsetSpec.earliest())
    return begins, admin.offsets(wanted, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)


def between(
    admin: Admin, wanted: list[TopicPartition], since: float, until: float | None
) -> dict[Place, tuple[int, int]]:
    """The offsets between two times (epoch seconds) of some partitions; ``until``: None: to their ends."""
    _, ends = spans(admin, wanted)
    begins = begins_at(admin, wanted, since, ends)
    stops = ends if until is None else begins_at(admin, wanted, until, ends)
    return {place: (begins[place], min(stops[place], end)) for place, end in ends.items()}


def begins_at(admin: Admin, wanted: list[TopicPartition], time: float, ends: Mapping[Place, int]) -> dict[Place, int]:
    """The offset of the first record of each partition from a time on; its end if it has none."""
    found = admin.offsets(wanted, OffsetSpec.for_timestamp(max(0, int(time * 1000))))
    return {place: ends[place] if offset < 0 else offset for place, offset in found.items()}


def everything(cluster: Cluster, layout: Layout, topic: str) -> Iterator[Record]:
    """All records of a topic; none if it does not exist.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    if not (wanted := layout.places(topic)):
        return
    with within(TIMEOUT), administration(cluster) as admin:
        begins, ends = spans(admin, wanted)
    for batch in histories(cluster, {place: (begins[place], end) for place, end in ends.items()}):
        yield from batch


def journal_events(cluster: Cluster, spans: Spans, queues: Mapping[str, str]) -> Iterator[tuple[Place, JournalEvent]]:
    """The transitions in parts of journals that are of the present topics of their queues, each with its partition.

    Args:
        queues: the id of the queue's topic of each journal.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    for batch in histories(cluster, spans):
        for record in batch:
            found, topic = object_of(record.value()), record.topic()
            if found.get("queue") == queues.get(topic, ""):
                for transition, incarnation in transitions_of(found):
                    event = JournalEvent(transition, incarnation, record.offset(), record.timestamp()[1] / 1000)
                    yield (topic, record.partition()), event
