"""The tail of a log: its committed records as they come, of the partitions asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from confluent_kafka import Message as Record
from confluent_kafka import TopicPartition

from kafka_exec.errors import ConnectionFailed, KafkaExecError
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.calls import Calls
from kafka_exec.kafka.client.complaints import Complaints
from kafka_exec.kafka.client.failures import time_left
from kafka_exec.kafka.client.log_reading import is_record, poll_batch, position_after, read_from
from kafka_exec.kafka.client.loop import Loop
from kafka_exec.kafka.client.offsets import LATEST, look_up
from kafka_exec.kafka.client.profiles import FOLLOWING
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import TIMEOUT

_BATCH = 1000
_IDLE_POLL = 0.1  # bounds the wait of a partition that is asked for later

#: How long the reader's thread may take in addition, to come to a call and to end one, seconds.
_SLACK = 5.0

Take = Callable[[list[Record]], None]


class Tail:
    """Gives batches of records to ``take``, in a thread of its own."""

    def __init__(self, cluster: Cluster, topic: str, take: Take) -> None:
        self._cluster = cluster
        self._topic = topic
        self._take = take
        self._calls = Calls(_IDLE_POLL)
        #: The offset at which reading began, and the next one to take, by partition.
        self.starts: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._complaints = Complaints(f"reading {topic}")
        self._consumer = cluster.new_consumer(FOLLOWING)
        self._consumer.assign([])
        self._loop = Loop("states", self._turn, end=self._end, complaints=self._complaints)
        self._loop.start()

    def follow(self, partitions: Collection[int]) -> None:
        """Reads partitions from their present end on. When this returns, no record written later is missed.

        Raises:
            ConnectionFailed: the cluster does not say where they end.
        """
        if not all(partition in self.starts for partition in partitions):
            left = time_left(TIMEOUT)
            until = time.monotonic() + left
            self._calls.ask(lambda: self._follow(partitions, until), left + _SLACK)

    def _follow(self, partitions: Collection[int], until: float) -> None:
        new = [TopicPartition(self._topic, each, LATEST) for each in partitions if each not in self.starts]
        if not new:
            return
        # To a reader of committed records the end is where the first open transaction begins: nothing of it is missed.
        found = look_up(self._consumer, new, until - time.monotonic())
        starts = {each.partition: each.offset for each in found}
        read_from(self._consumer, self._topic, starts)
        self._positions.update(starts)
        self.starts.update(starts)

    def wait(self, partition: int, end: int) -> None:
        """Waits until all committed records of a partition before an end were taken; call it from a native thread.

        Raises:
            ConnectionFailed: the records were not taken in time, :data:`TIMEOUT` seconds at most.
        """
        deadline = time.monotonic() + time_left(TIMEOUT)
        while self._positions[partition] < end:
            if time.monotonic() > deadline:
                raise ConnectionFailed(f"{self._topic} could not be read to its end in time")
            native.sleep(0.001)

    def _turn(self) -> None:
        self._calls.serve()
        self._hand_over(poll_batch(self._consumer, self._calls.poll_time, _BATCH))

    def _end(self) -> None:
        self._consumer.close()
        self._cluster.forget(self._consumer)

    def _hand_over(self, found: list[Record]) -> None:
        records = []
        for each in found:
            try:
                if is_record(each, self._topic):
                    records.append(each)
            except KafkaExecError as error:
                self._complaints.warn(str(error))
        try:
            if records:
                self._take(records)
        finally:
            for each in found:
                if position := position_after(each):
                    self._positions[each.partition()] = position

    def close(self, timeout: float) -> None:
        """Ends the thread within ``timeout`` seconds."""
        self._loop.stop()
        self._loop.join(timeout)
