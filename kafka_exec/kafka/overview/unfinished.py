"""Reading the messages that have not ended: those of the queues with their ledgers, and those that wait for their time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.control.moved import Moved
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.pausing import QueuePauses, pauses_in
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.restoring import JournalEntry, restore
from kafka_exec.core.queue.transitions import FARTHEST
from kafka_exec.core.record.fields import from_json
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.client.offsets import committed
from kafka_exec.kafka.cluster.admin import TIMEOUT, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import histories
from kafka_exec.kafka.overview.reading import Layout, Place, QueueTopics, everything, read, spans

T = TypeVar("T")

#: The most unfinished records that are read of each topic.
MOST = 10_000

#: A level's position is looked for in so many records at the end of its positions.
_TAIL = 500


@dataclass(frozen=True)
class Unfinished(Generic[T]):
    """The unfinished records of a partition.

    Attributes:
        ledger: as its next owner would restore it.
        records: made of the records from the first unfinished one on, those that have ended too.
        unread: the number of unfinished offsets behind them.
        end: the offset after the last record.
    """

    ledger: Ledger
    records: list[T]
    unread: int
    end: int


def unfinished(
    cluster: Cluster, names: Topics, layout: Layout, topics: QueueTopics, make: Callable[[Record], T]
) -> dict[Place, Unfinished[T]]:
    """The unfinished records of some queues, at most :data:`MOST` of each topic. ``make``: makes something of a record.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    journals = {topic: names.journal(*place) for place, topic in topics.items()}
    with within(TIMEOUT), administration(cluster) as admin:
        # In this order: what is told of a record stands behind it, so no task seems to be unfinished that has ended.
        ids = cluster.topics.identities(list(topics.values()))
        begins, ends = spans(admin, layout.places(*topics.values()))
        progress = _progress(cluster, layout, topics.values(), ids)
        journal_begins, journal_ends = spans(admin, layout.places(*journals.values()))
    wanted = {}
    for (topic, number), known in progress.items():
        place = (journals[topic], number)
        if place in journal_ends:
            wanted[place] = (max(journal_begins[place], 0 if known is None else known.folded), journal_ends[place])
    told = read(cluster, wanted, lambda record: JournalEntry(record.offset(), record.value()))
    ledgers = {
        (topic, number): restore(ids[topic], told.get((journals[topic], number), ()), known)[0]
        for (topic, number), known in progress.items()
    }
    counts = Counter(topic for topic, _ in ledgers)
    bounds = {}
    for place, ledger in ledgers.items():
        begin = max(ledger.progress.low, begins[place])
        bounds[place] = (begin, min(ends[place], begin + MOST // counts[place[0]]))
    records = read(cluster, bounds, make)
    return {
        place: Unfinished(
            ledger, records[place], ledger.progress.unfinished(bounds[place][1], ends[place]), ends[place]
        )
        for place, ledger in ledgers.items()
    }


def paused(cluster: Cluster, names: Topics, layout: Layout) -> dict[str, QueuePauses]:
    """The pauses of all queues, also those that are over, by queue.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    rows = {}
    for record in everything(cluster, layout, names.bindings):
        with suppress(ValueError):  # the reader of the table tells of it
            rows[(record.key() or b"").decode()] = from_json(record.value())
    return pauses_in(rows.items())


def _progress(
    cluster: Cluster, layout: Layout, topics: Iterable[str], ids: Mapping[str, str]
) -> dict[Place, Progress | None]:
    """The commit of each partition; None: there is none, or it is of a former topic of this name."""
    found: dict[Place, Progress | None] = {}
    for topic in topics:
        consumer = cluster.new_consumer({"group.id": topic})
        try:
            for each in committed(consumer, layout.places(topic), TIMEOUT):
                known = None if each.offset < 0 else Progress.restore(each.offset, each.metadata, ids[topic])
                found[topic, each.partition] = known
        finally:
            consumer.close()
            cluster.forget(consumer)
    return found


def delayed(cluster: Cluster, names: Topics, layout: Layout, most: int | None = None) -> tuple[Iterator[Record], bool]:
    """The messages that wait in Kafka for their time; and True if there are more of them.

    Args:
        most: so many are read; None: all.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    if not (waiting := layout.places(names.delay)):
        return iter(()), False
    with within(TIMEOUT), administration(cluster) as admin:
        begins, ends = spans(admin, waiting)
        positions = spans(admin, layout.places(names.delay_state))
    of_levels = _moved(cluster, *positions)
    known = {place: of_levels.get(place[1], Moved()) for place in ends}
    found = {place: (max(begins[place], known[place].position), end) for place, end in ends.items()}
    found = {place: span for place, span in found.items() if span[0] < span[1]}
    share = None if most is None else most // max(1, len(found))
    bounds = {place: (b, e if share is None else min(e, b + share)) for place, (b, e) in found.items()}
    waits = (each for batch in histories(cluster, bounds) for each in batch)
    return (each for each in waits if not known[names.delay, each.partition()].has(each.offset())), bounds != found


def moved(cluster: Cluster, names: Topics, layout: Layout) -> dict[int, Moved]:
    """The messages of each level that were moved, if any were.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    with within(TIMEOUT), administration(cluster) as admin:
        positions = spans(admin, layout.places(names.delay_state))
    return _moved(cluster, *positions)


def _moved(cluster: Cluster, begins: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[int, Moved]:
    found: dict[int, Moved] = {}
    for batch in histories(cluster, {p: (max(begins[p], ends[p] - _TAIL), ends[p]) for p in ends}):
        for record in batch:
            with suppress(ValueError):  # who drives the level tells of it
                found[record.partition()] = Moved.decode(record.value(), FARTHEST)
    return found
