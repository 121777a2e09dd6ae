"""Reading broadcast logs: one consumer per process, by plain assignment, shared by all subscriptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from confluent_kafka import KafkaException
from confluent_kafka import Message as Record

from kafka_exec.kafka.client.calls import Calls
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.client.complaints import Complaints
from kafka_exec.kafka.client.failures import time_left, translate
from kafka_exec.kafka.client.log_reading import poll_batch, read_from, read_no_more, trouble_of
from kafka_exec.kafka.client.loop import Loop
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.client.profiles import LOG
from kafka_exec.kafka.cluster.offset_finder import OffsetFinder

#: How long the end of a subscription may take, seconds.
TIMEOUT = 10.0

#: How long the reader's thread may take in addition, to come to a call and to end one, seconds.
_SLACK = 5.0

_BATCH = 500
_AT_ONCE = 0.001
_IDLE_POLL = 0.25  # bounds the wait of a new subscription

Sink = Callable[[Record], None]
Partition = tuple[str, int]


class LogReader:
    """Hands the records of logs to sinks. Sinks are called in the reader's thread and must not block."""

    def __init__(self, clients: Clients) -> None:
        self._sinks: dict[Partition, tuple[Sink, ...]] = {}
        self._calls = Calls(_IDLE_POLL)
        self._complaints = Complaints("reading logs")
        self._clients = clients
        self._offsets = OffsetFinder(clients)
        self._consumer = clients.new_consumer(LOG)
        self._consumer.assign([])
        #: The time of the last turn, seconds of the monotonic clock.
        self.turned = time.monotonic()
        self._loop = Loop("log", self._turn, end=self._end, complaints=self._complaints)
        self._loop.start()
        clients.on_close(self.close)

    def follow(self, topic: str, begins: Mapping[int, int], sinks: Mapping[int, Sink]) -> None:
        """Gives the sink of each partition all its records from an offset on.

        Raises:
            ConnectionFailed: the reader's thread is held up.
        """
        self._ask(lambda: self._follow(topic, begins, sinks))

    def _follow(self, topic: str, begins: Mapping[int, int], sinks: Mapping[int, Sink]) -> None:
        if again := [number for number in begins if (topic, number) in self._sinks]:
            read_no_more(self._consumer, topic, again)
        self._assign(topic, begins)
        for number, sink in sinks.items():
            self._add(topic, number, sink)

    def subscribe(self, topic: str, partitions: Iterable[int], sink: Sink, *, since: float | None = None) -> None:
        """Gives a sink all records from now on. When this returns, none published later is missed.

        Args:
            since: the sink gets earlier records too: those from this time on, epoch seconds; 0 for all.

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
        read_from(self._consumer, topic, starts)
        # librdkafka would look for the leaders of a new topic half a second later. The answer comes to the client also when
        # this thread does not wait for it, which it would do behind the fetch under way.
        with suppress(KafkaException):
            self._consumer.list_topics(topic, _AT_ONCE)

    def _add(self, topic: str, number: int, sink: Sink) -> None:
        self._sinks[topic, number] = (*self._sinks.get((topic, number), ()), sink)

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
        return self._offsets.ends(topic, partitions)

    def begin(self, topic: str, partition: int, since: float) -> int:
        """The offset of the first record from a time on, epoch seconds; the end if there is none."""
        return self._offsets.begins(topic, [partition], since)[partition]

    def _ask(self, function: Callable[[], None]) -> None:
        self._calls.ask(function, time_left(TIMEOUT) + _SLACK)

    def _turn(self) -> None:
        self.turned = time.monotonic()
        self._calls.serve()
        self._offsets.look_after()
        for record in poll_batch(self._consumer, self._calls.poll_time, _BATCH):
            self._hand_over(record)

    def _end(self) -> None:
        self._consumer.close()
        self._clients.forget(self._consumer)
        self._offsets.close()

    def _hand_over(self, record: Record) -> None:
        if record.error() is not None:
            if (error := trouble_of(record)) is not None:
                self._complaints.warn(str(translate(error, f"reading {record.topic() or 'broadcast logs'}")))
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
