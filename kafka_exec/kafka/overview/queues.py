"""The counts of all queues, from the commits of their groups, their journals, and their unfinished records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import NamedTuple

from confluent_kafka import Message as Record
from confluent_kafka.admin import OffsetSpec

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.core.control.delay import DelayHeaders
from kafka_exec.core.message.envelope import ticket_of
from kafka_exec.core.nodes.heartbeat import NodeState, Seen, roll
from kafka_exec.core.overview.counts import QueueCounts, QueueRecord, counts_of
from kafka_exec.core.overview.queues import QueueReport, report
from kafka_exec.core.queue.pausing import NO_PAUSES
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.cluster.admin import TIMEOUT, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.nodes.node import heard
from kafka_exec.kafka.overview.reading import Layout, layout_of
from kafka_exec.kafka.overview.unfinished import delayed, paused, unfinished
from kafka_exec.kafka.queue.dead import DeadLetters

#: The rate of a queue is that of so many seconds.
_MINUTE = 60.0

#: Nodes count that were heard in so many seconds.
_HEARD_WITHIN = 3600.0


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
    """The queues of one prefix at one time, read from Kafka. It joins no group, and asks no worker.

    Args:
        layout: the topics of that time; None: they are asked for.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """

    def __init__(self, cluster: Cluster, topics: Topics, layout: Layout | None = None) -> None:
        self._cluster = cluster
        self._topics = topics
        self._layout = layout or layout_of(cluster)

    def survey(self, now: float, queues: Collection[str] | None = None) -> Survey:
        """The queues and nodes of now (epoch seconds). ``queues``: only these; None: all.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        nodes = self._nodes(now)
        alive = [seen.beat for seen, state in nodes if state is NodeState.ALIVE]
        living = {beat.incarnation for beat in alive}
        figures = native.call(self._figures, queues, living.__contains__, now)
        delayed = native.call(self._delayed)
        pauses = native.call(paused, self._cluster, self._topics, self._layout)
        reports = [
            report(
                name,
                found,
                alive,
                delayed=delayed.get(name, 0),
                dead=self._dead(name),
                rate=rate,
                pauses=pauses.get(name, NO_PAUSES).in_force(now),
            )
            for name, (found, rate) in sorted(figures.items())
        ]
        return Survey(reports, nodes)

    def living(self, now: float) -> frozenset[str]:
        """The incarnations that are alive now, epoch seconds.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        return frozenset(seen.beat.incarnation for seen, state in self._nodes(now) if state is NodeState.ALIVE)

    def _nodes(self, now: float) -> list[tuple[Seen, NodeState]]:
        beats = heard(self._cluster, nodes_topic(self._topics), now - _HEARD_WITHIN)
        return roll(beats, now=now, period=self._cluster.settings.heartbeat)

    def _dead(self, queue: str) -> int:
        letters = DeadLetters(self._cluster, self._topics, queue)
        return sum(not each.replayed for each in letters.scan()) if letters.topic in self._layout.counts else 0

    def _figures(
        self, queues: Collection[str] | None, lives: Callable[[str], bool], now: float
    ) -> dict[str, QueueFigures]:
        topics = self._layout.queues(self._topics, queues)
        with within(TIMEOUT), administration(self._cluster) as admin:
            since = OffsetSpec.for_timestamp(int((now - _MINUTE) * 1000))
            before = admin.offsets(self._layout.places(*topics.values()), since)
        found = dict.fromkeys((name for name, _ in topics), QueueFigures(QueueCounts(), 0.0))
        names = {topic: name for (name, _), topic in topics.items()}
        for place, read in unfinished(self._cluster, self._topics, self._layout, topics, queue_record).items():
            start = before.get(place, -1)
            came = read.end - start if start >= 0 else 0
            counts, rate = found[names[place[0]]]
            more = counts_of(read.ledger, read.records, read.unread, lives)
            found[names[place[0]]] = QueueFigures(counts + more, rate + came / _MINUTE)
        return found

    def _delayed(self) -> dict[str, int]:
        found = Counter[str]()
        for record in delayed(self._cluster, self._topics, self._layout)[0]:
            if (queue := _queue_of_delayed(record)) is not None:
                found[queue] += 1
        return dict(found)


def queue_record(record: Record) -> QueueRecord:
    """A record of a queue's topic, as it counts."""
    try:
        ticket = ticket_of(record.headers(), record.value(), record.topic(), record.partition())
    except Exception:  # a worker makes a dead letter of it
        ticket = None
    return QueueRecord(record.offset(), record.timestamp()[1] / 1000, ticket)


def _queue_of_delayed(record: Record) -> str | None:
    try:
        return DelayHeaders.read(record.headers())[0].queue
    except Undecodable:
        return None  # its owner passes it over
