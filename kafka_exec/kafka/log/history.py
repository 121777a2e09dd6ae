"""Reading what is already in a log: a partition up to an end, or single records, by consumers of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import failure, persist, time_left, translate
from kafka_exec.kafka.client.offsets import LOOKING
from kafka_exec.kafka.cluster.cluster import Cluster

#: How long an answer of the cluster may take, seconds: longer than a transaction may be open.
TIMEOUT = 15.0

_BATCH = 2000
_PASSING = (Failure.NEWS, *LOOKING)
_POLL = 0.2

READING = {
    "group.id": "kafka_exec.states",  # required by the client library; no group is ever joined
    "auto.offset.reset": "earliest",
}

#: The properties of a consumer that follows committed records as they come.
FOLLOWING = {
    **READING,
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    # A newly assigned partition waits for the fetch under way: that bounds the wait.
    "fetch.wait.max.ms": 100,
    "fetch.message.max.bytes": 1024 * 1024,
    "queued.max.messages.kbytes": 4096,
}


def is_record(record: Record, topic: str) -> bool:
    """False: the end of a partition, or an error that passes by itself.

    Raises:
        KafkaExecError: the cluster refuses to be read.
    """
    error = record.error()
    if error is None:
        return True
    # No group is joined, so that it may not is nobody's business.
    if failure(error) not in _PASSING and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
        raise translate(error, f"reading {topic}")
    return False


def position_after(record: Record) -> int:
    """The position that a record, or the end of a partition, tells of; 0 for errors.

    What is no record (the end of a transaction, something compacted) is passed over; only the end tells of it.
    """
    error = record.error()
    if error is None:
        return int(record.offset()) + 1
    return int(record.offset()) if error.code() == KafkaError._PARTITION_EOF else 0


@contextmanager
def _consumer(cluster: Cluster, properties: dict[str, Any]) -> Iterator[Consumer]:
    consumer = cluster.new_consumer({**READING, **properties})
    try:
        yield consumer
    finally:
        consumer.close()
        cluster.forget(consumer)


def history(cluster: Cluster, topic: str, partition: int, end: int, begin: int = 0) -> Iterator[list[Record]]:
    """The committed records of a partition up to an end, in batches.

    Raises:
        ConnectionFailed: nothing came for :data:`TIMEOUT` seconds.
    """
    properties = {
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
        "fetch.message.max.bytes": 1024 * 1024,
        "queued.max.messages.kbytes": 4096,
    }
    position = begin
    if begin >= end:
        return
    with _consumer(cluster, properties) as consumer:
        consumer.assign([TopicPartition(topic, partition, begin)])
        deadline = time.monotonic() + time_left(TIMEOUT)
        while position < end:
            first = consumer.poll(_POLL)
            if first is None:
                if time.monotonic() > deadline:
                    raise ConnectionFailed(f"{topic} could not be read to its end within {TIMEOUT:.0f} s")
                continue
            found = [first, *consumer.consume(_BATCH, 0)]
            position = max(position, *(position_after(record) for record in found))
            yield [record for record in found if is_record(record, topic) and record.offset() < end]
            deadline = time.monotonic() + time_left(TIMEOUT)


class Fetcher:
    """Single records by their offsets, and the ends of partitions. Thread-safe; call it from native threads."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._lock = native.lock()
        self._consumer = cluster.new_consumer(
            {
                **READING,
                # The end is the end of all that was acknowledged; what is fetched is known to be committed.
                "isolation.level": "read_uncommitted",
                # One record is wanted, not what follows it: the broker sends its batch, however large, and no more. A fetch
                # under way at the end holds up what is asked next.
                "fetch.wait.max.ms": 1,
                "queued.min.messages": 1000,
                "fetch.queue.backoff.ms": 1,
                "fetch.message.max.bytes": 1024,
            }
        )

    def end(self, partition: int) -> int:
        """The offset after the last record that was acknowledged."""
        return self.span(partition)[1]

    def span(self, partition: int) -> tuple[int, int]:
        """The offsets of the first record, and after the last that was acknowledged."""
        where = TopicPartition(self._topic, partition)
        with self._lock:
            # Which leader it asks, the client knows of the cluster's metadata, and asks for that too seldom.
            first, last = persist(
                lambda timeout: self._consumer.get_watermark_offsets(where, timeout),
                *(f"finding the ends of {self._topic}", TIMEOUT, LOOKING),
                between=lambda timeout: self._consumer.list_topics(self._topic, timeout),
            )
            return int(first), int(last)

    def fetch(self, partition: int, offset: int) -> Record | None:
        """The record at an offset; None if it was compacted away."""
        where = TopicPartition(self._topic, partition, offset)
        deadline = time.monotonic() + time_left(TIMEOUT)
        with self._lock:
            self._consumer.incremental_assign([where])
            try:
                while time.monotonic() < deadline:
                    record = self._consumer.poll(_POLL)
                    if record is not None and is_record(record, self._topic):
                        return record if record.offset() == offset else None
            finally:
                self._consumer.incremental_unassign([where])
        raise ConnectionFailed(f"{self._topic} could not be read in time")

    def close(self, timeout: float) -> None:
        """Ends it within ``timeout`` seconds."""
        if self._lock.acquire(timeout=timeout):
            self._consumer.close()
            self._cluster.forget(self._consumer)
            self._lock.release()
