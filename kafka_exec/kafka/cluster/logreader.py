"""Reading broadcast logs: one consumer per process, by plain assignment, shared by all subscriptions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition, murmur2
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.calls import Calls
from kafka_exec.kafka.client.failures import failure, time_left, translate
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.cluster.offset_finder import OffsetFinder

if TYPE_CHECKING:
    from kafka_exec.kafka.cluster.cluster import Cluster

logger = logging.getLogger("kafka_exec")

#: How long the end of a subscription may take, seconds.
TIMEOUT = 10.0

#: What the reader's thread may take beside it, to come to a call and to end one, seconds.
_SLACK = 5.0

_PASSING = (Failure.NEWS, Failure.PASSES)
_BATCH = 500
_AT_ONCE = 0.001
_IDLE_POLL = 0.25  # bounds what a new subscription waits

Sink = Callable[[Record], None]
Partition = tuple[str, int]


def partition_of(key: str | bytes, partitions: int) -> int:
    """The partition of a record key, as the producers choose it."""
    return int(murmur2(key.encode() if isinstance(key, str) else key, partitions))


class LogReader:
    """Hands the records of logs to sinks. Sinks are called in the reader's thread and must not block."""

    def __init__(self, cluster: Cluster) -> None:
        self._sinks: dict[Partition, tuple[Sink, ...]] = {}
        self._calls = Calls(_IDLE_POLL)
        self._told: set[str] = set()
        self._stopping = False
        self._cluster = cluster
        self._offsets = OffsetFinder(cluster)
        self._consumer = cluster.new_consumer(
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
        cluster.on_close(self.close)

    def follow(self, topic: str, begins: Mapping[int, int], sinks: Mapping[int, Sink]) -> None:
        """Gives sinks all records of some partitions from given offsets on, one for each.

        Raises:
            ConnectionFailed: the reader's thread is held up.
        """
        self._ask(lambda: self._follow(topic, begins, sinks))

    def _follow(self, topic: str, begins: Mapping[int, int], sinks: Mapping[int, Sink]) -> None:
        if again := [TopicPartition(topic, number) for number in begins if (topic, number) in self._sinks]:
            self._consumer.incremental_unassign(again)
        self._assign(topic, begins)
        for number, sink in sinks.items():
            self._add(topic, number, sink)

    def subscribe(self, topic: str, partitions: Iterable[int], sink: Sink, *, since: float | None = None) -> None:
        """Gives a sink all records from now on. When this returns, none published later is missed.

        Args:
            since: give it earlier ones too: those from this time on, epoch seconds; 0 for all.

        Raises:
            ConnectionFailed: the cluster does not say where the log ends.
        """
        find = self._offsets
        starts = find.ends(topic, partitions) if since is None else find.begins(topic, partitions, since)
        self._ask(lambda: self._subscribe(topic, starts, sink))

    def _subscribe(self, topic: str, starts: Mapping[int, int], sink: Sink) -> None:
        if new := {number: at for number, at in starts.items() if (topic, number) not in self._sinks}:
            self._assign(topic, new)
        for number in starts:
            self._add(topic, number, sink)

    def _assign(self, topic: str, starts: Mapping[int, int]) -> None:
        # Offsets as numbers: librdkafka would look up a logical one half a second later.
        self._consumer.incremental_assign([TopicPartition(topic, number, at) for number, at in starts.items()])
        # Likewise it would look for the leaders of a new topic half a second later. The answer comes to the client also when
        # this thread does not wait for it, which it would do behind the fetch under way.
        with suppress(KafkaException):
            self._consumer.list_topics(topic, _AT_ONCE)

    def _add(self, topic: str, number: int, sink: Sink) -> None:
        self._sinks[topic, number] = (*self._sinks.get((topic, number), ()), sink)

    def unsubscribe(self, sink: Sink) -> None:
        """Gives a sink no more records."""
        if not self._stopping:
            self._calls.ask(lambda: self._unsubscribe(sink), TIMEOUT)

    def _unsubscribe(self, sink: Sink) -> None:
        for partition, sinks in list(self._sinks.items()):
            rest = tuple(other for other in sinks if other != sink)
            if rest:
                self._sinks[partition] = rest
            else:
                del self._sinks[partition]
                self._consumer.incremental_unassign([TopicPartition(*partition)])

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The offset after the last record of each partition."""
        return self._offsets.ends(topic, partitions)

    def begin(self, topic: str, partition: int, since: float) -> int:
        """The offset of the first record from a time on, epoch seconds; the end if there is none."""
        return self._offsets.begins(topic, [partition], since)[partition]

    def _ask(self, function: Callable[[], None]) -> None:
        self._calls.ask(function, time_left(TIMEOUT) + _SLACK)

    def _run(self) -> None:
        consumer = self._consumer
        while not self._stopping:
            try:
                self._calls.serve()
                self._offsets.look_after()
                first = consumer.poll(self._calls.poll_time)
                records = [first, *consumer.consume(_BATCH, 0)] if first is not None else []
                for record in records:
                    self._hand_over(record)
            except Exception as error:
                logger.warning("reading a broadcast log: %s", error)
                native.sleep(0.1)
        consumer.close()
        self._cluster.forget(consumer)
        self._offsets.close()

    def _hand_over(self, record: Record) -> None:
        if (error := record.error()) is not None:
            # It joins no group, so that it may not is nobody's business.
            if error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED and failure(error) not in _PASSING:
                line = str(translate(error, f"reading {record.topic() or 'broadcast logs'}"))
                if line not in self._told:
                    self._told.add(line)
                    logger.warning(line)
            return
        for sink in self._sinks.get((record.topic(), record.partition()), ()):
            try:
                sink(record)
            except Exception as unread:
                pass_over(record, unread)

    def close(self, timeout: float) -> None:
        """Ends the reader within ``timeout`` seconds."""
        self._stopping = True
        self._thread.join(timeout)
