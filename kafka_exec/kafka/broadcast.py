"""Reading broadcast logs: one consumer per process, by plain assignment, shared by all subscriptions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition, murmur2
from confluent_kafka import Message as Record

from kafka_exec.kafka import native
from kafka_exec.kafka.client import translate

if TYPE_CHECKING:
    from kafka_exec.kafka.client import Cluster

logger = logging.getLogger("kafka_exec")

#: How long finding the end of a log may take, seconds.
TIMEOUT = 10.0

_BATCH = 500
_LATEST = -1  # as a timestamp of Kafka's ListOffsets request

Sink = Callable[[Record], None]
Partition = tuple[str, int]


def partition_of(key: str, partitions: int) -> int:
    """The partition of a record key, as the producers choose it."""
    return int(murmur2(key.encode(), partitions))


class LogReader:
    """Hands the records of logs to sinks. Sinks are called in the reader's thread and must not block."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = native.lock()
        self._sinks: dict[Partition, tuple[Sink, ...]] = {}
        self._consumer: Consumer | None = None
        self._thread: native.Thread | None = None
        self._stopping = False

    def subscribe(self, topic: str, partitions: Iterable[int], sink: Sink, *, from_beginning: bool = False) -> None:
        """Gives a sink all records from now on, or all there are. When this returns, none published later is missed."""
        native.call(self._subscribe, [(topic, number) for number in partitions], sink, from_beginning)

    def _subscribe(self, wanted: list[Partition], sink: Sink, from_beginning: bool) -> None:
        with self._lock:
            consumer = self._start()
            new = [TopicPartition(*p, _LATEST) for p in wanted if p not in self._sinks]
            # Visible before a partition is assigned, so that its first record finds its sink.
            for partition in wanted:
                self._sinks[partition] = (*self._sinks.get(partition, ()), sink)
            if not new:
                return
            try:
                if from_beginning:
                    starts = [TopicPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in new]
                else:
                    starts = consumer.offsets_for_times(new, TIMEOUT)
                consumer.incremental_assign(starts)
            except KafkaException as error:
                self._drop(wanted, sink)
                raise translate(error, f"subscribing to {wanted[0][0]}") from None

    def unsubscribe(self, sink: Sink) -> None:
        """Gives a sink no more records."""
        with self._lock:
            gone = self._drop([p for p, sinks in self._sinks.items() if sink in sinks], sink)
            if gone and self._consumer is not None and not self._stopping:
                self._consumer.incremental_unassign([TopicPartition(*p) for p in gone])

    def _drop(self, partitions: Iterable[Partition], sink: Sink) -> list[Partition]:
        """Takes a sink from partitions; those that nobody reads any more."""
        gone = []
        for partition in list(partitions):
            rest = tuple(other for other in self._sinks[partition] if other != sink)
            if rest:
                self._sinks[partition] = rest
            else:
                del self._sinks[partition]
                gone.append(partition)
        return gone

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The offset after the last record of each partition."""
        wanted = [TopicPartition(topic, number, _LATEST) for number in partitions]
        try:
            found = native.call(self._start().offsets_for_times, wanted, TIMEOUT)
        except KafkaException as error:
            raise translate(error, f"finding the end of {topic}") from None
        return {p.partition: p.offset for p in found}

    def _start(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._cluster.new_consumer(
                {
                    "group.id": "kafka_exec.log",  # required by the client library; no group is ever joined
                    "auto.offset.reset": "earliest",
                    # A newly assigned partition waits for the fetch under way: that bounds the wait.
                    "fetch.wait.max.ms": 100,
                    "queued.max.messages.kbytes": 4096,
                    "fetch.message.max.bytes": 1024 * 1024,
                }
            )
            self._consumer.assign([])
            self._thread = native.Thread(self._run, "kafka-exec-log")
            self._cluster.on_close(self.close)
        return self._consumer

    def _run(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        while not self._stopping:
            try:
                first = consumer.poll(1.0)
                records = [first, *consumer.consume(_BATCH, 0)] if first is not None else []
                for record in records:
                    self._hand_over(record)
            except Exception as error:
                logger.warning("reading a broadcast log: %s", error)
                time.sleep(0.1)
        consumer.close()
        self._cluster.forget(consumer)

    def _hand_over(self, record: Record) -> None:
        if (error := record.error()) is not None:
            if error.fatal() or not error.retriable():
                logger.warning("reading broadcast log %s: %s", record.topic(), error.str())
            return
        for sink in self._sinks.get((record.topic(), record.partition()), ()):
            try:
                sink(record)
            except Exception:
                logger.exception("a record of %s was not understood", record.topic())

    def close(self, timeout: float) -> None:
        """Ends the reader within ``timeout`` seconds."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join(timeout)
