"""The control plane's runtime: this process's share of its partitions, driven by one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Consumer
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import control_state_topic, control_topic, dead_topic
from kafka_exec.core.control.reducers import TICK, Command, Effect, Reducer, Reducers
from kafka_exec.errors import KafkaExecError
from kafka_exec.kafka.client.log_reading import read_from, read_no_more
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.control.partition import MOST, ControlPartition, ControlTopics, Performer
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.nodes.share import Share
from kafka_exec.kafka.publish.scopes import confirmed

#: The longest poll, seconds: bounds the wait at a change of owners, and of changes for their commit.
_POLL = 0.2

#: The shortest time between two commands that only tell the time, in a quiet log, seconds.
_TICK = 1.0


#: A command is about so many tasks at most, which bounds its size.
_MOST_NAMES = 1000


class Processor(Share[ControlPartition]):
    """Drives this node's share of the control plane.

    Args:
        node: sends the heartbeats by which the others know of this one.
        topics: the names of the topics, with whose prefix the transactional ids begin too.
        reducers: by name, the functions that make a reducer for a partition.
        performers: by type of effect, the functions that make its records. They are called in the runtime's thread, before
            the transaction; an error other than of the connection fails the effect.
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
        self._topics = ControlTopics(
            control_topic(settings, topics),
            control_state_topic(settings, topics),
            dead_topic(settings, topics, "control"),
        )
        super().__init__(cluster, node, "control", "control plane", [self._topics.commands, self._topics.changelog])
        self._makers = reducers
        self._performers = performers
        self._prefix = topics.prefix
        self._next_tick: dict[int, float] = {}

    @property
    def driven(self) -> frozenset[int]:
        """The partitions whose commands this node takes."""
        return frozenset(number for number, partition in list(self._partitions.items()) if partition.restored)

    def tell(self, command: Callable[[Sequence[str]], Command], names: Sequence[str]) -> None:
        """Writes commands into all partitions; each command is about some of the names.

        Raises:
            KafkaExecError: they may not have been written.
        """
        self._cluster.topics.ensure(self._topics.commands)
        with confirmed():
            for number in range(self._cluster.topics.partitions(self._topics.commands.name) or 0):
                for begin in range(0, len(names), _MOST_NAMES):
                    value = command(names[begin : begin + _MOST_NAMES]).encode()
                    self._cluster.publisher.send(self._topics.commands.name, value, partition=number)

    def _make(self, number: int) -> ControlPartition:
        return ControlPartition(
            self._cluster,
            self._topics,
            number,
            f"{self._prefix}.control.{number}",
            self._node.incarnation,
            Reducers(self._makers),
            self._performers,
        )

    def _take_over(self, consumer: Consumer, partitions: Sequence[ControlPartition]) -> None:
        """Fences the former owners and begins to read the changelogs."""
        for partition in self._fence(partitions):
            self._partitions[partition.number] = partition
            read_from(consumer, self._topics.changelog.name, {partition.number: 0})

    def _step(self, consumer: Consumer) -> None:
        for (topic, number), batch in self._read(consumer, _POLL, MOST).items():
            partition = self._partitions.get(number)
            if partition is not None and topic == self._topics.changelog.name:
                self._restore(consumer, partition, batch)
            elif partition is not None and partition.restored:
                self._guarded(consumer, partition, lambda p, batch=batch: p.take(batch))  # type: ignore[misc]
        self._settle(consumer)
        for partition in self._partitions.values():
            self._tell_time(partition)

    def _finish(self, consumer: Consumer) -> None:
        self._settle(consumer, at_once=True)

    def _settle(self, consumer: Consumer, *, at_once: bool = False) -> None:
        """Begins all transactions before it waits for the first; what takes longest to make before those that are open."""
        for partition in sorted(self._partitions.values(), key=lambda each: each.number_of_steps, reverse=True):
            self._guarded(consumer, partition, lambda p: p.begin(at_once=at_once))
        for partition in list(self._partitions.values()):
            self._guarded(consumer, partition, ControlPartition.settle)

    def _restore(self, consumer: Consumer, partition: ControlPartition, records: Sequence[Record]) -> None:
        if partition.restored:
            return
        for record in records:
            partition.restore(record)
        if partition.restored:
            number = partition.number
            read_no_more(consumer, self._topics.changelog.name, [number])
            read_from(consumer, self._topics.commands.name, {number: partition.position})

    def _unassign(self, consumer: Consumer, partition: ControlPartition) -> None:
        topic = self._topics.commands if partition.restored else self._topics.changelog
        read_no_more(consumer, topic.name, [partition.number])

    def _tell_time(self, partition: ControlPartition) -> None:
        """Writes a command that only tells the time, if a timer is due and no other command has told it."""
        timer, now, log_time = partition.next_timer, time.monotonic(), self._node.log_time()
        if timer is None or log_time is None or timer > log_time or not partition.restored:
            return
        if now >= self._next_tick.get(partition.number, 0):
            self._next_tick[partition.number] = now + _TICK
            try:
                self._cluster.publisher.post(
                    self._topics.commands.name, Command(TICK, {}).encode(), partition=partition.number
                )
            except KafkaExecError as error:
                self._complaints.tell(error)
