"""Reading the present records of a log: a partition up to an end, or single ones, by consumers of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import Consumer
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

_BATCH = 2000
_POLL = 0.2


def history(cluster: Cluster, topic: str, partition: int, end: int, begin: int = 0) -> Iterator[list[Record]]:
    """The committed records of a partition up to an end, in batches.

    Raises:
        ConnectionFailed: no record came for :data:`TIMEOUT` seconds.
    """
    position = begin
    if begin >= end:
        return
    consumer = cluster.new_consumer(TO_AN_END)
    try:
        read_from(consumer, topic, {partition: begin})
        deadline = time.monotonic() + time_left(TIMEOUT)
        while position < end:
            found = poll_batch(consumer, _POLL, _BATCH)
            if not found:
                if time.monotonic() > deadline:
                    raise ConnectionFailed(f"{topic} could not be read to its end within {TIMEOUT:.0f} s")
                continue
            position = max(position, *(position_after(record) for record in found))
            yield [record for record in found if is_record(record, topic) and record.offset() < end]
            deadline = time.monotonic() + time_left(TIMEOUT)
    finally:
        consumer.close()
        cluster.forget(consumer)


class Fetcher:
    """Single records by their offsets, and the ends of partitions. It connects when first used.

    Thread-safe; call it from native threads.
    """

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._lock = native.lock()
        self._consumer: Consumer | None = None

    def end(self, partition: int) -> int:
        """The offset after the last acknowledged record of a partition."""
        return self.span(partition)[1]

    def span(self, partition: int) -> tuple[int, int]:
        """The offset of the first record of a partition, and the one after the last acknowledged record."""
        with self._lock:
            return span(self._connected(), self._topic, partition, TIMEOUT)

    def fetch(self, partition: int, offset: int) -> Record | None:
        """The record at an offset; None if it was compacted away, or deleted."""
        deadline = time.monotonic() + time_left(TIMEOUT)
        with self._lock:
            consumer = self._connected()
            read_from(consumer, self._topic, {partition: offset})
            try:
                while time.monotonic() < deadline:
                    record = consumer.poll(_POLL)
                    if record is not None and is_record(record, self._topic):
                        return record if record.offset() == offset else None
                    first, end = span(consumer, self._topic, partition, time_left(TIMEOUT))
                    if not first <= offset < end:  # of a partition without records the reader would hear nothing
                        return None
            finally:
                read_no_more(consumer, self._topic, [partition])
        raise ConnectionFailed(f"{self._topic} could not be read in time")

    def _connected(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._cluster.new_consumer(SINGLE)
        return self._consumer

    def close(self, timeout: float) -> None:
        """Closes the consumer, within ``timeout`` seconds."""
        if self._lock.acquire(timeout=timeout):
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                consumer.close()
                self._cluster.forget(consumer)
            self._lock.release()
