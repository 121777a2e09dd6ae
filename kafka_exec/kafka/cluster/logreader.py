"""Reading broadcast logs: one consumer per process, by plain assignment, shared by all subscriptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from confluent_kafka import Message as Record
from confluent_kafka import TopicPartition, murmur2

from kafka_exec.kafka.client.calls import Calls
from kafka_exec.kafka.client.complaints import Complaints
from kafka_exec.kafka.client.failures import time_left, translate
from kafka_exec.kafka.client.log_reading import poll_batch, read_from, read_no_more, trouble_of
from kafka_exec.kafka.client.loop import Loop
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.client.offsets import EARLIEST, LATEST, look_up
from kafka_exec.kafka.client.profiles import LOG

if TYPE_CHECKING:
    from kafka_exec.kafka.cluster.cluster import Cluster

#: How long finding the end of a log may take, seconds.
TIMEOUT = 10.0

#: What the reader's thread may take beside it, to come to a call and to end one, seconds.
_SLACK = 5.0

_BATCH = 500
_IDLE_POLL = 0.25  # bounds what a new subscription waits

T = TypeVar("T")
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
        self._complaints = Complaints("reading logs")
        # Of topics that cannot be read, why.
        self._refusals: dict[str, Exception] = {}
        self._cluster = cluster
        self._consumer = cluster.new_consumer(LOG)
        self._consumer.assign([])
        self._loop = Loop("log", self._turn, end=self._end, complaints=self._complaints)
        self._loop.start()
        cluster.on_close(self.close)

    def follow(self, topic: str, begins: Mapping[int, int], sinks: Mapping[int, Sink]) -> dict[int, int]:
        """Gives sinks all records of some partitions from given offsets on, one for each; where they end now.

        Raises:
            ConnectionFailed: the cluster does not say where the log ends.
        """
        return self._ask(lambda until: self._follow(topic, begins, sinks, until))

    def _follow(self, topic: str, begins: Mapping[int, int], sinks: Mapping[int, Sink], until: float) -> dict[int, int]:
        ends = {p.partition: p.offset for p in self._find([(topic, number) for number in begins], LATEST, until)}
        if again := [number for number in begins if (topic, number) in self._sinks]:
            read_no_more(self._consumer, topic, again)
        read_from(self._consumer, topic, begins)
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
        if not self._loop.is_stopping:
            self._calls.ask(lambda: self._unsubscribe(sink), TIMEOUT)

    def _unsubscribe(self, sink: Sink) -> None:
        for partition, sinks in list(self._sinks.items()):
            rest = tuple(other for other in sinks if other != sink)
            if rest:
                self._sinks[partition] = rest
            else:
                del self._sinks[partition]
                read_no_more(self._consumer, partition[0], [partition[1]])

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

    def _turn(self) -> None:
        self._calls.serve()
        for record in poll_batch(self._consumer, self._calls.poll_time, _BATCH):
            self._hand_over(record)

    def _end(self) -> None:
        self._consumer.close()
        self._cluster.forget(self._consumer)

    def _hand_over(self, record: Record) -> None:
        if record.error() is not None:
            if (error := trouble_of(record)) is not None:
                refusal = translate(error, f"reading {record.topic() or 'broadcast logs'}")
                self._refusals[record.topic() or ""] = refusal
                self._complaints.warn(str(refusal))
            return
        for sink in self._sinks.get((record.topic(), record.partition()), ()):
            try:
                sink(record)
            except Exception as unread:
                pass_over(record, unread)

    def close(self, timeout: float) -> None:
        """Ends the reader within ``timeout`` seconds."""
        self._loop.stop()
        self._loop.join(timeout)
