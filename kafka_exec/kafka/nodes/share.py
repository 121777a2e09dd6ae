"""A node's share of the partitions of something that all nodes drive together: chords, messages that wait.

The owner of each partition follows from the log of heartbeats alone. Two nodes may see it differently for a moment. The
transactional id of each partition keeps two owners apart: the newest owner takes it from the one before.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.errors import KafkaExecError
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.complaints import Complaints
from kafka_exec.kafka.client.failures import failure, translate
from kafka_exec.kafka.client.log_reading import get_to_know, poll_batch, trouble_of
from kafka_exec.kafka.client.loop import Loop, run_once
from kafka_exec.kafka.client.profiles import DRIVING
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.publish.transactions import TIMEOUT

logger = logging.getLogger("kafka_exec")

#: The time between two deletions of records that are not needed any more, seconds.
_TRIM = 60.0


class Driven(Protocol):
    """A partition that this process drives."""

    number: int

    @property
    def done(self) -> int:
        """The offset below which no node needs the records any more; 0 if it is not known."""

    def fence(self) -> None:
        """Makes this process the only one that can change it. Called in a thread of its own. Raises Lost if it fails."""

    def close(self) -> None:
        """Lets the partition go."""


P = TypeVar("P", bound=Driven)


class Share(ABC, Generic[P]):
    """Drives this node's share, from :meth:`start` to :meth:`stop`, in one thread.

    Args:
        node: sends the heartbeats by which the others know of this one.
        role: the name of the role, an attribute of :class:`~kafka_exec.core.nodes.heartbeat.Heartbeat`.
        title: the name of the role in log lines.
        logs: the topics that are read; the nodes share the partitions of the first one.
    """

    #: How long the broker waits for a record to send, milliseconds: bounds the wait of a newly assigned partition.
    fetch_wait = 100

    def __init__(self, cluster: Cluster, node: Node, role: str, title: str, logs: Sequence[TopicSpec]) -> None:
        self._cluster = cluster
        self._node = node
        self._role = role
        self._logs = logs
        self._complaints = Complaints(title)
        self._loop = Loop(role, self._live, end=self._leave, complaints=self._complaints)
        self._period = cluster.settings.heartbeat
        self._count = 0
        self._partitions: dict[int, P] = {}
        self._not_before: dict[int, float] = {}
        self._trimmed: dict[int, int] = {}
        self._next_trim = time.monotonic() + _TRIM

    def start(self) -> None:
        """Begins; a second call changes nothing."""
        self._loop.start()

    def stop(self, timeout: float) -> bool:
        """Writes what is under way and leaves the partitions to others. Returns False if not within ``timeout`` seconds."""
        self._loop.stop()
        return self._loop.join(timeout)

    # -- what differs --------------------------------------------------------------------------------------------------

    @abstractmethod
    def _make(self, number: int) -> P:
        """Makes a partition that belongs to this node by now."""

    @abstractmethod
    def _take_over(self, consumer: Consumer, partitions: Sequence[P]) -> None:
        """Begins to drive partitions."""

    @abstractmethod
    def _step(self, consumer: Consumer) -> None:
        """Reads records for a moment, and writes their outputs."""

    @abstractmethod
    def _unassign(self, consumer: Consumer, partition: P) -> None:
        """Has the consumer read no more of a partition."""

    @abstractmethod
    def _finish(self, consumer: Consumer) -> None:
        """Writes the outputs that are under way, at the end."""

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        """Drives the share until it is stopped, or until an error concerns all of it."""
        self._begin()
        self._drive()

    def _leave(self) -> None:
        self._node.announce(self._role, False)

    def _begin(self) -> None:
        self._cluster.topics.ensure(*self._logs)
        self._count = self._cluster.topics.partitions(self._logs[0].name) or 0
        self._node.start()
        self._node.announce(self._role, True)

    def _drive(self) -> None:
        consumer = self._cluster.new_consumer({**DRIVING, "fetch.wait.max.ms": self.fetch_wait})
        try:
            for topic in self._logs:
                get_to_know(consumer, topic.name, TIMEOUT)
            consumer.assign([])
            while not self._loop.is_stopping:
                self._follow(consumer)
                self._step(consumer)
                self._trim()
            self._finish(consumer)
        finally:
            for partition in self._partitions.values():
                partition.close()
            self._partitions.clear()
            consumer.close()
            self._cluster.forget(consumer)

    def _follow(self, consumer: Consumer) -> None:
        """Takes over the partitions that belong to this node by now, and lets the others go."""
        mine = self._node.owned(self._role, self._count)
        if mine is None:
            return
        for number in set(self._partitions) - mine:
            self._drop(consumer, self._partitions[number])
        now = time.monotonic()
        wanted = [n for n in sorted(mine - set(self._partitions)) if now >= self._not_before.get(n, 0)]
        if wanted:
            self._take_over(consumer, [self._make(number) for number in wanted])

    def _trim(self) -> None:
        """Deletes, now and then, records that are not needed any more."""
        if time.monotonic() < self._next_trim:
            return
        self._next_trim = time.monotonic() + _TRIM
        done = {number: each.done for number, each in self._partitions.items()}
        more = {number: offset for number, offset in done.items() if offset > self._trimmed.get(number, 0)}
        try:
            if more:
                self._cluster.topics.truncate(self._logs[0].name, more)
                self._trimmed.update(more)
        except KafkaExecError as error:
            logger.debug("what is done with in %s is not deleted: %s", self._logs[0].name, error)

    def _fence(self, partitions: Sequence[P]) -> list[P]:
        """Fences the former owners, all at once since each may take half a second. Returns the fenced partitions."""
        results: list[tuple[P, BaseException | None]] = []
        done = native.lock()
        done.acquire()

        def fence(partition: P) -> None:
            error: BaseException | None = None
            try:
                partition.fence()
            except BaseException as raised:
                error = raised
            results.append((partition, error))
            if len(results) == len(partitions):
                done.release()

        for partition in partitions:
            run_once("fence", partial(fence, partition))
        done.acquire()  # each step of a transaction has a timeout of its own
        for partition, error in results:
            if error is not None:
                self._give_up(partition, error)
        return [partition for partition, error in results if error is None]

    def _read(self, consumer: Consumer, timeout: float, most: int) -> dict[tuple[str, int], list[Record]]:
        """The records that come within ``timeout`` seconds, by topic and partition."""
        read: dict[tuple[str, int], list[Record]] = {}
        for record in poll_batch(consumer, timeout, most):
            if record.error() is None:
                read.setdefault((record.topic(), record.partition()), []).append(record)
            elif (error := trouble_of(record)) is not None:
                self._failed(error, record.topic())
        return read

    def _guarded(self, consumer: Consumer, partition: P, act: Callable[[P], None]) -> None:
        try:
            act(partition)
        except Exception as error:
            self._drop(consumer, partition)
            self._give_up(partition, error)

    def _drop(self, consumer: Consumer, partition: P) -> None:
        self._unassign(consumer, partition)
        del self._partitions[partition.number]
        partition.close()

    def _give_up(self, partition: P, error: BaseException) -> None:
        """Leaves a partition alone for a heartbeat: two nodes that think they own it would fence each other in turns."""
        partition.close()
        self._not_before[partition.number] = time.monotonic() + self._period
        self._complaints.tell(error)

    def _failed(self, error: KafkaError, topic: str | None) -> None:
        translated = translate(error, f"reading {topic or self._logs[0].name}")
        if failure(error) in (Failure.MISSING, Failure.FATAL):
            for log in self._logs:
                self._cluster.topics.forget(log.name)
            raise translated
        self._complaints.tell(translated)
