"""Finding tasks by their ids among the records of a queue that wait in this process, or for their place in a lane."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from confluent_kafka import Message as Record

from kafka_exec.core.message.envelope import decode
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Fetcher, history
from kafka_exec.kafka.queue.owned import OwnedPartition
from kafka_exec.kafka.queue.reader import GroupReader

#: The most records that are read at one place, the first ones: an operator waits for the answer.
MOST = 10_000

_CLOSING = 1.0


def among(records: Iterable[Record], ids: Collection[str]) -> Iterator[Record]:
    """The records among these that are of tasks with one of the ids."""
    for record in records:
        try:
            task_id = decode(record.headers(), record.value()).task.get("id")
        except Undecodable:
            continue  # the error is logged when the record is delivered
        if isinstance(task_id, str) and task_id in ids:
            yield record


def waiting_at(reader: GroupReader, cluster: Cluster, ids: Collection[str]) -> list[Record]:
    """The records of tasks with these ids that wait in a reader's buffer, or in lanes. It may have to read Kafka.

    Raises:
        ConnectionFailed: they could not be read.
    """
    ready = [record for record, work, term in reader.buffer.copy() if work.may_run(record.offset(), term)]
    return [*among(ready, ids), *(record for work in reader.works() for record in _in_lanes(work, cluster, ids))]


def _in_lanes(work: OwnedPartition, cluster: Cluster, ids: Collection[str]) -> Iterator[Record]:
    kept, known, unread = work.waiting(ids)
    yield from kept
    if known:
        fetcher = Fetcher(cluster, work.topic)
        try:
            found = [fetcher.fetch(work.partition, offset) for offset in known]
        finally:
            fetcher.close(_CLOSING)
        yield from (record for record in found if record is not None)
    if unread:
        begin, end = min(unread), min(max(unread) + 1, min(unread) + MOST)
        for batch in history(cluster, work.topic, work.partition, end, begin):
            yield from among((record for record in batch if record.offset() in unread), ids)
