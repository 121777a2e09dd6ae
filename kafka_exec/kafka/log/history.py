"""Reading the present records of a log: a partition up to an end, or single ones, by consumers of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import Message as Record

from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import time_left
from kafka_exec.kafka.client.log_reading import is_record, poll_batch, position_after, read_from, read_no_more
from kafka_exec.kafka.client.offsets import span
from kafka_exec.kafka.client.profiles import SINGLE, TO_AN_END
from kafka_exec.kafka.cluster.cluster import Cluster

#: How long an answer of the cluster may take, seconds: longer than a transaction may be open.
TIMEOUT = 15.0

#: The first and the last offset to read of each partition, the last one excluded, by topic and partition.
Spans = Mapping[tuple[str, int], tuple[int, int]]

_BATCH = 2000
_POLL = 0.2


def history(cluster: Cluster, topic: str, partition: int, end: int, begin: int = 0) -> Iterator[list[Record]]:
    """The committed records of a partition up to an end, in batches.

    Raises:
        ConnectionFailed: no record came for :data:`TIMEOUT` seconds.
    """
    return histories(cluster, {(topic, partition): (begin, end)})


def histories(cluster: Cluster, spans: Spans) -> Iterator[list[Record]]:
    """The committed records of several partitions, each between two offsets, in batches.

    Those of one partition come in their order.

    Raises:
        ConnectionFailed: no record came for :data:`TIMEOUT` seconds.
    """
    left = {place: span for place, span in spans.items() if span[0] < span[1]}
    if not left:
        return
    consumer = cluster.new_consumer(TO_AN_END)
    try:
        for (topic, partition), (begin, _) in left.items():
            read_from(consumer, topic, {partition: begin})
        deadline = time.monotonic() + time_left(TIMEOUT)
        while left:
            found = poll_batch(consumer, _POLL, _BATCH)
            if not found:
                if time.monotonic() > deadline:
                    topic, _ = next(iter(left))
                    raise ConnectionFailed(f"{topic} could not be read to its end within {TIMEOUT:.0f} s")
                continue
            yield [record for record in found if is_record(record, record.topic()) and _is_within(record, spans)]
            for each in found:
                place = (each.topic(), each.partition())
                if place in left and position_after(each) >= left[place][1]:
                    del left[place]
                    read_no_more(consumer, place[0], [place[1]])
            deadline = time.monotonic() + time_left(TIMEOUT)
    finally:
        consumer.close()
        cluster.forget(consumer)


def _is_within(record: Record, spans: Spans) -> bool:
    end = spans[record.topic(), record.partition()][1]
    return bool(record.offset() < end)


class Fetcher:
    """Single records by their offsets, and the ends of partitions. Thread-safe; call it from native threads."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._lock = native.lock()
        self._consumer = cluster.new_consumer(SINGLE)

    def end(self, partition: int) -> int:
        """The offset after the last acknowledged record of a partition."""
        return self.span(partition)[1]

    def span(self, partition: int) -> tuple[int, int]:
        """The offset of the first record of a partition, and the one after the last acknowledged record."""
        with self._lock:
            return span(self._consumer, self._topic, partition, TIMEOUT)

    def fetch(self, partition: int, offset: int) -> Record | None:
        """The record at an offset; None if it was compacted away, or deleted."""
        deadline = time.monotonic() + time_left(TIMEOUT)
        with self._lock:
            read_from(self._consumer, self._topic, {partition: offset})
            try:
                while time.monotonic() < deadline:
                    record = self._consumer.poll(_POLL)
                    if record is not None and is_record(record, self._topic):
                        return record if record.offset() == offset else None
                    first, end = span(self._consumer, self._topic, partition, time_left(TIMEOUT))
                    if not first <= offset < end:  # of a partition without records the reader would hear nothing
                        return None
            finally:
                read_no_more(self._consumer, self._topic, [partition])
        raise ConnectionFailed(f"{self._topic} could not be read in time")

    def close(self, timeout: float) -> None:
        """Closes the consumer, within ``timeout`` seconds."""
        if self._lock.acquire(timeout=timeout):
            self._consumer.close()
            self._cluster.forget(self._consumer)
            self._lock.release()
