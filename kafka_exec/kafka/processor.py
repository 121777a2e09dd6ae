"""The control plane's runtime: this process's share of its partitions, driven by one thread.

Who owns which partition follows from the log of heartbeats alone. It may be seen differently for a moment; what keeps two
owners apart is the transactional id of each partition, which the newest owner takes from the one before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as Record

from kafka_exec.core.assignment import owned
from kafka_exec.core.control import TICK, Command, Effect, Reducer, Reducers
from kafka_exec.core.names import Topics
from kafka_exec.core.nodes import LOST_AFTER, Census, Heartbeat
from kafka_exec.core.topology import control_state_topic, control_topic, dead_topic
from kafka_exec.errors import ConnectionFailed, KafkaExecError
from kafka_exec.kafka import native
from kafka_exec.kafka.client import Cluster, translate
from kafka_exec.kafka.nodes import Node
from kafka_exec.kafka.partitions import MOST, ControlTopics, Partition, Performer
from kafka_exec.kafka.transactions import TIMEOUT, Lost

logger = logging.getLogger("kafka_exec")

#: The longest poll, seconds: bounds what a change of owners and the commit of plain changes wait.
_POLL = 0.2

#: In a quiet log the time is told at most this often, seconds.
_TICK = 1.0

#: After an error of the whole runtime it begins anew after this time, seconds.
_PAUSE = 1.0

#: How far back the log of heartbeats is read, in periods: enough for clocks that differ somewhat.
_LOOK_BACK = 4 * LOST_AFTER


class Processor:
    """Drives this node's share of the control plane, from :meth:`start` to :meth:`stop`.

    Args:
        node: sends the heartbeats by which the others know of this one.
        topics: the names, of which the prefix is that of the transactional ids too.
        reducers: by name, what makes one for a partition.
        performers: what makes the records of each type of effect. They are called in the runtime's thread, before the
            transaction; an error other than of the connection fails the effect.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: Topics,
        node: Node,
        reducers: Mapping[str, Callable[[], Reducer]],
        performers: Mapping[type[Effect], Performer],
    ) -> None:
        settings = cluster.settings
        self._cluster = cluster
        self._node = node
        self._makers = reducers
        self._performers = performers
        self._period = settings.heartbeat
        self._topics = ControlTopics(
            control_topic(settings, topics),
            control_state_topic(settings, topics),
            dead_topic(settings, topics, "control"),
        )
        self._prefix = topics.prefix
        self._count = 0
        self._census = Census(node.boot, self._period)
        self._lock = native.lock()
        # Log time less this machine's, as this node's own heartbeats tell it.
        self._ahead: float | None = None
        self._partitions: dict[int, Partition] = {}
        self._not_before: dict[int, float] = {}
        self._next_tick: dict[int, float] = {}
        self._told = ""
        self._stopping = False
        self._thread: native.Thread | None = None

    def start(self) -> None:
        """Begins; a second call changes nothing."""
        if self._thread is None:
            self._thread = native.Thread(self._run, "kafka-exec-control")

    def stop(self, timeout: float) -> bool:
        """Writes what is under way and leaves the partitions to the others. False: not within ``timeout`` seconds."""
        self._stopping = True
        return self._thread is None or self._thread.join(timeout)

    @property
    def driven(self) -> frozenset[int]:
        """The partitions of which commands are being taken here."""
        return frozenset(number for number, partition in list(self._partitions.items()) if partition.restored)

    # -- the log of heartbeats: called in the thread of its reader -----------------------------------------------------

    def _on_beat(self, record: Record) -> None:
        beat = Heartbeat.decode(record.value())
        if beat is None:
            return
        at = record.timestamp()[1] / 1000
        with self._lock:
            self._census.take(beat, at)
            if beat.boot == self._node.boot:
                self._ahead = at - time.monotonic()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._begin()
                self._drive()
            except Exception as error:
                self._tell(error)
                self._wait(_PAUSE)
            finally:
                self._cluster.log.unsubscribe(self._on_beat)
        self._node.announce(control=False)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._stopping:
            native.sleep(0.05)

    def _begin(self) -> None:
        self._cluster.topics.ensure(self._topics.commands, self._topics.changelog)
        self._count = self._cluster.topics.partitions(self._topics.commands.name) or 0
        self._node.start()
        since = time.time() - _LOOK_BACK * self._period
        self._cluster.log.subscribe(self._node.registry, [0], self._on_beat, since=since)
        self._node.announce(control=True)

    def _drive(self) -> None:
        consumer = self._cluster.new_consumer(
            {
                "group.id": "kafka_exec.control",  # required by the client library; no group is ever joined
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                # A newly assigned partition waits for the fetch under way: that bounds the wait.
                "fetch.wait.max.ms": 100,
                "fetch.error.backoff.ms": 100,
                "queued.max.messages.kbytes": 4096,
                "fetch.message.max.bytes": 1024 * 1024,
            }
        )
        try:
            # Known topics are read at once; unknown ones when librdkafka looks for them, a second later.
            for topic in (self._topics.changelog, self._topics.commands):
                consumer.list_topics(topic.name, TIMEOUT)
            consumer.assign([])
            while not self._stopping:
                self._follow(consumer)
                self._step(consumer)
            self._settle(consumer, at_once=True)
        finally:
            for partition in self._partitions.values():
                partition.close()
            self._partitions.clear()
            consumer.close()
            self._cluster.forget(consumer)

    def _follow(self, consumer: Consumer) -> None:
        """Takes over what belongs to this node by now, and lets go what does not."""
        with self._lock:
            living = self._census.living
            suspicion = self._ahead is not None and self._census.suspects(time.monotonic() + self._ahead)
        if suspicion:
            self._node.beat()
        if not living:
            return
        mine = owned(self._node.boot, living, self._count)
        for number in set(self._partitions) - mine:
            self._drop(consumer, self._partitions[number])
        now = time.monotonic()
        wanted = [n for n in sorted(mine - set(self._partitions)) if now >= self._not_before.get(n, 0)]
        if wanted:
            self._take_over(consumer, wanted)

    def _take_over(self, consumer: Consumer, numbers: Sequence[int]) -> None:
        """Fences the former owners, all at once since each may take half a second, and begins to read the changelogs."""
        made = [
            Partition(
                *(self._cluster, self._topics, number, f"{self._prefix}.control.{number}"),
                *(Reducers(self._makers), self._performers),
            )
            for number in numbers
        ]
        results: list[tuple[Partition, Exception | None]] = []
        done = native.lock()
        done.acquire()

        def fence(partition: Partition) -> None:
            error: Exception | None = None
            try:
                partition.fence(self._node.boot)
            except Exception as raised:
                error = raised
            results.append((partition, error))
            if len(results) == len(made):
                done.release()

        for partition in made:
            native.Thread(lambda partition=partition: fence(partition), "kafka-exec-fence")  # type: ignore[misc]
        done.acquire()  # each step of a transaction has a timeout of its own
        for partition, error in results:
            if error is not None:
                self._give_up(partition, error)
                continue
            self._partitions[partition.number] = partition
            consumer.incremental_assign([TopicPartition(self._topics.changelog.name, partition.number, 0)])

    def _step(self, consumer: Consumer) -> None:
        first = consumer.poll(_POLL)
        records = [first, *consumer.consume(MOST - 1, 0)] if first is not None else []
        read: dict[tuple[str, int], list[Record]] = {}
        for record in records:
            if (error := record.error()) is not None:
                self._failed(error, record.topic())
            else:
                read.setdefault((record.topic(), record.partition()), []).append(record)
        for (topic, number), batch in read.items():
            partition = self._partitions.get(number)
            if partition is not None and topic == self._topics.changelog.name:
                self._restore(consumer, partition, batch)
            elif partition is not None and partition.restored:
                self._guarded(consumer, partition, lambda p, batch=batch: p.take(batch))  # type: ignore[misc]
        self._settle(consumer)
        for partition in self._partitions.values():
            self._tell_time(partition)

    def _settle(self, consumer: Consumer, *, at_once: bool = False) -> None:
        """Begins all transactions before it waits for the first."""
        for partition in list(self._partitions.values()):
            self._guarded(consumer, partition, lambda p: p.begin(at_once=at_once))
        for partition in list(self._partitions.values()):
            self._guarded(consumer, partition, Partition.settle)

    def _restore(self, consumer: Consumer, partition: Partition, records: Sequence[Record]) -> None:
        if partition.restored:
            return
        for record in records:
            partition.restore(record)
        if partition.restored:
            number = partition.number
            consumer.incremental_unassign([TopicPartition(self._topics.changelog.name, number)])
            # An offset as a number: librdkafka would look up a logical one half a second later.
            consumer.incremental_assign([TopicPartition(self._topics.commands.name, number, partition.position)])

    def _guarded(self, consumer: Consumer, partition: Partition, act: Callable[[Partition], None]) -> None:
        try:
            act(partition)
        except Exception as error:
            self._drop(consumer, partition)
            self._give_up(partition, error)

    def _drop(self, consumer: Consumer, partition: Partition) -> None:
        topic = self._topics.commands if partition.restored else self._topics.changelog
        consumer.incremental_unassign([TopicPartition(topic.name, partition.number)])
        del self._partitions[partition.number]
        partition.close()

    def _give_up(self, partition: Partition, error: Exception) -> None:
        """Leaves a partition alone for a heartbeat, so that two who both believe to own it do not duel."""
        partition.close()
        self._not_before[partition.number] = time.monotonic() + self._period
        self._tell(error)

    def _tell_time(self, partition: Partition) -> None:
        """Writes a command that only tells the time, if a timer is due and no other command has told it."""
        timer, now = partition.next_timer, time.monotonic()
        if timer is None or self._ahead is None or timer > now + self._ahead or not partition.restored:
            return
        if now >= self._next_tick.get(partition.number, 0):
            self._next_tick[partition.number] = now + _TICK
            try:
                self._cluster.publisher.post(
                    self._topics.commands.name, Command(TICK, {}).encode(), partition=partition.number
                )
            except KafkaExecError as error:
                self._tell(error)

    def _failed(self, error: KafkaError, topic: str | None) -> None:
        # It joins no group, so that it may not is nobody's business.
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED or error.retriable():
            return
        failure = translate(error, f"reading {topic or self._topics.commands.name}")
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            self._cluster.topics.forget(self._topics.commands.name)
            self._cluster.topics.forget(self._topics.changelog.name)
            raise failure
        self._tell(failure)

    def _tell(self, error: Exception) -> None:
        """Logs an error, unless it is an outage, of which others tell, or it was told just before."""
        reason = error.__cause__ if isinstance(error, Lost) and error.__cause__ is not None else error
        line = f"control plane: {error if isinstance(error, (KafkaExecError, Lost)) else repr(error)}"
        logger.log(
            logging.DEBUG if isinstance(reason, ConnectionFailed) or line == self._told else logging.WARNING, line
        )
        self._told = line
