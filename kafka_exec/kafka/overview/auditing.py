"""Reading what an audit judges: the records of a time, and the journal since then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.overview.audit import Audit, audit
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.cluster.admin import TIMEOUT, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.overview.queues import queue_record
from kafka_exec.kafka.overview.reading import Layout, QueueTopics, between, journal_events, read
from kafka_exec.kafka.overview.unfinished import unfinished

#: The journal is read from so many seconds before the first record: the clocks of brokers may differ.
_MARGIN = 60.0


class PartitionAudit(NamedTuple):
    """The audit of a partition of a queue."""

    queue: str
    topic: str
    partition: int
    audit: Audit


def audits(
    cluster: Cluster,
    names: Topics,
    layout: Layout,
    topics: QueueTopics,
    lives: Callable[[str], bool],
    since: float,
    until: float,
) -> Iterator[PartitionAudit]:
    """The audits of the partitions of some queues, one after another.

    Args:
        lives: returns True for an incarnation that is alive.
        since, until: the records that were written from then on, and before then, epoch seconds.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    journals = {topic: names.journal(*place) for place, topic in topics.items()}
    with within(TIMEOUT), administration(cluster) as admin:
        records = between(admin, layout.places(*topics.values()), since, until)
    # The journal is read after the ledgers are: else a task that ends meanwhile would have ended without being told.
    ledgers = unfinished(cluster, names, layout, topics, queue_record)
    ids = cluster.topics.identities(list(topics.values()))
    with within(TIMEOUT), administration(cluster) as admin:
        told = between(admin, layout.places(*journals.values()), since - _MARGIN, None)
    for (name, _), topic in topics.items():
        for place in [place for place in records if place[0] == topic]:
            own = (journals[topic], place[1])
            sent = read(cluster, {place: records[place]}, queue_record)[place]
            spans = {own: told[own]} if own in told else {}
            journal = (event for _, event in journal_events(cluster, spans, {own[0]: ids[topic]}))
            yield PartitionAudit(name, topic, place[1], audit(sent, journal, ledgers[place].ledger, lives))
