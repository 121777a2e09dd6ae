"""Reading broadcast logs: one consumer per process, by plain assignment, shared by all subscriptions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.calls import Calls
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.client.failures import failure, time_left, translate
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.client.offsets import EARLIEST, LATEST, look_up

logger = logging.getLogger("kafka_exec")

#: How long finding the end of a log may take, seconds.
TIMEOUT = 10.0

#: What the reader's thread may take beside it, to come to a call and to end one, seconds.
_SLACK = 5.0

_PASSING = (Failure.NEWS, Failure.PASSES)
_BATCH = 500
_IDLE_POLL = 0.25  # bounds what a new subscription waits

T = TypeVar("T")
Sink = Callable[[Record], None]
Partition = tuple[str, int]


class LogReader:
    """Hands the records of logs to sinks. Sinks are called in the reader's thread and must not block."""

    def __init__(self, clients: Clients) -> None:
        self._sinks: dict[Partition, tuple[Sink, ...]] = {}
        self._calls = Calls(_IDLE_POLL)
        self._told: set[str] = set()
        # Of topics that cannot be read, why.
        self._refusals: dict[str, Exception] = {}
        self._stopping = False
        self._clients = clients
        self._consumer = clients.new_consumer(
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
        clients.on_close(self.close)

    def follow(self, topic: str, begins: Mapping[int, int], sinks: Mapping[int, Sink]) -> dict[int, int]:
        """Gives sinks all records of some partitions from given offsets on, one for each; where they end now.

        Raises:
            ConnectionFailed: the cluster does not say where the log ends.
        """
        return self._ask(lambda until: self._follow(topic, begins, sinks, until))

    def _follow(self, topic: str, begins: Mapping[int, int], sinks: Mapping[int, Sink], until: float) -> dict[int, int]:
        ends = {p.partition: p.offset for p in self._find([(topic, number) for number in begins], LATEST, until)}
        if again := [TopicPartition(topic, number) for number in begins if (topic, number) in self._sinks]:
            self._consumer.incremental_unassign(again)
        self._consumer.incremental_assign([TopicPartition(topic, number, at) for number, at in begins.items()])
        for number, sink in sinks.items():
            self._sinks[topic, number] = (*self._sinks.get((topic, number), ()), sink)
        return ends

    def subscribe(self, topic: str, partitions: Iterable[int], sink: Sink, *, since: float | None = None) -> None:
        """Gives a sink all records from now on. When this returns, none published later is missed.

        Args:
            since: give it earlier ones too: those from this time on, epoch seconds; 0 for all.

        Raises:
            ConnectionFailed: the cluster does not say where the log ends.
        """
        wanted = [(topic, number) for number in partitions]
        self._ask(lambda until: self._subscribe(wanted, sink, since, until))

    def _subscribe(self, wanted: list[Partition], sink: Sink, since: float | None, until: float) -> None:
        new = [p for p in wanted if p not in self._sinks]
        if new:
            for topic, _ in new:
                self._refusals.pop(topic, None)
            # Offsets as numbers: librdkafka would look up a logical one half a second later.
            self._consumer.incremental_assign(self._starts(new, since, until))
        for partition in wanted:
            self._sinks[partition] = (*self._sinks.get(partition, ()), sink)

    def _starts(self, partitions: list[Partition], since: float | None, until: float) -> list[TopicPartition]:
        if since is None:
            return self._find(partitions, LATEST, until)
        found = self._find(partitions, int(since * 1000) or EARLIEST, until)
        none_later = [(p.topic, p.partition) for p in found if p.offset < 0]
        return [p for p in found if p.offset >= 0] + (self._find(none_later, LATEST, until) if none_later else [])

    def check(self, topic: str) -> None:
        """Raises what has been the matter with reading a topic since it was subscribed to last, if anything has.

        Raises:
            Forbidden: this user may not read it.
            ConnectionFailed: it cannot be read.
        """
        if (refusal := self._refusals.get(topic)) is not None:
            raise refusal

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
        wanted = [(topic, number) for number in partitions]
        found = self._ask(lambda until: self._find(wanted, LATEST, until))
        return {p.partition: p.offset for p in found}

    def begin(self, topic: str, partition: int, since: float) -> int:
        """The offset of the first record from a time on, epoch seconds; the end if there is none."""
        found = self._ask(lambda until: self._starts([(topic, partition)], since, until))
        return int(found[0].offset)

    def _ask(self, function: Callable[[float], T]) -> T:
        """Has the reader's thread call a function with the time by which it must have succeeded, monotonic seconds."""
        left = time_left(TIMEOUT)
        until = time.monotonic() + left
        return self._calls.ask(lambda: function(until), left + _SLACK)

    def _find(self, partitions: Iterable[Partition], where: int, until: float) -> list[TopicPartition]:
        return look_up(self._consumer, [TopicPartition(*p, where) for p in partitions], until - time.monotonic())

    def _run(self) -> None:
        consumer = self._consumer
        while not self._stopping:
            try:
                self._calls.serve()
                first = consumer.poll(self._calls.poll_time)
                records = [first, *consumer.consume(_BATCH, 0)] if first is not None else []
                for record in records:
                    self._hand_over(record)
            except Exception as error:
                logger.warning("reading a broadcast log: %s", error)
                native.sleep(0.1)
        consumer.close()
        self._clients.forget(consumer)

    def _hand_over(self, record: Record) -> None:
        if (error := record.error()) is not None:
            # It joins no group, so that it may not is nobody's business.
            if error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED and failure(error) not in _PASSING:
                refusal = translate(error, f"reading {record.topic() or 'broadcast logs'}")
                self._refusals[record.topic() or ""] = refusal
                line = str(refusal)
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
