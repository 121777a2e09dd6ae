"""Reading the log of claims from its newest checkpoint on, and deleting the records before it."""

from __future__ import annotations

import logging
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as Record

from kafka_exec.core.beat.claimlog import ClaimLog, RecordKind, Signal, restored
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.errors import ChannelFailed, ConnectionFailed, KafkaExecError, Undecodable
from kafka_exec.kafka.client.log_reading import is_end, is_record, poll_batch, position_after
from kafka_exec.kafka.client.loop import run_once
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.client.profiles import FOLLOWING
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Fetcher

logger = logging.getLogger("kafka_exec")

#: The reader looks for a checkpoint in so many records at the end first; then in four times as many, and so on.
_PAGE = 4000

#: How long reading the present state may take, seconds.
TIMEOUT = 10.0

_BATCH = 2000
_POLL = 0.2


class SyncLog:
    """The log of claims as one thread reads it. Only committed records are seen.

    Raises:
        TopicMismatch: the topic has more than one partition.
        ConnectionFailed: the cluster does not answer.
    """

    def __init__(self, cluster: Cluster, spec: TopicSpec) -> None:
        self._cluster = cluster
        self._topic = spec.name
        self._position = 0
        # The offsets of the last checkpoints, the newest last: records before the last but one are deleted.
        self._checkpoints: list[int] = []
        cluster.topics.partitions(spec.name, fresh=True)  # the topic may be another one than before
        cluster.topics.ensure(spec)
        fetcher = Fetcher(cluster, spec.name)
        begin, self._end = fetcher.span(0)
        fetcher.close(1.0)
        # A reader that is behind may miss records that are deleted: then it must begin anew.
        self._consumer: Consumer = cluster.new_consumer({**FOLLOWING, "auto.offset.reset": "error"})
        try:
            self.state = self._newest(begin)
        except BaseException:
            self.close()
            raise

    @property
    def is_read(self) -> bool:
        """True if all records were read that were in the log when this reader began."""
        return self._position >= self._end

    def _newest(self, begin: int) -> ClaimLog:
        """The state of the newest checkpoint. The records behind it are read next."""
        page = _PAGE
        while True:
            first = max(begin, self._end - page)
            found = restored([signal for _, signal in self._to_the_end(first)]) if self._end > begin else None
            if found is not None or first == begin:
                log = found or ClaimLog(next=begin, whole=begin == 0)
                self._position = log.next
                self._consumer.assign([TopicPartition(self._topic, 0, log.next)])
                return log
            page *= 4

    def _to_the_end(self, first: int) -> list[tuple[Record, Signal]]:
        """The committed records from an offset on, at least up to the end that the log had when this reader began.

        Kafka tells the end of the partition only if no record comes for a while: never, if much is fired.
        """
        self._consumer.assign([TopicPartition(self._topic, 0, first)])
        found: list[tuple[Record, Signal]] = []
        is_over = first >= self._end
        deadline = time.monotonic() + TIMEOUT
        while not is_over:
            records = self._poll(_POLL)
            if records:
                deadline = time.monotonic() + TIMEOUT
            elif time.monotonic() > deadline:
                raise ConnectionFailed(f"{self._topic} could not be read: nothing has come for {TIMEOUT:.0f} s")
            for record in records:
                if is_record(record, self._topic):
                    found += self._decoded(record)
                is_over = is_over or is_end(record) or position_after(record) >= self._end
        return found

    def read(self, timeout: float) -> list[tuple[Record, Signal]]:
        """The records that come within ``timeout`` seconds, with their signals.

        Raises:
            KafkaExecError: the log cannot be read on; it must be opened anew.
        """
        found: list[tuple[Record, Signal]] = []
        for record in self._poll(timeout):
            if is_record(record, self._topic):
                found += self._decoded(record)
            self._position = max(self._position, position_after(record))
        return found

    def _poll(self, timeout: float) -> list[Record]:
        records = poll_batch(self._consumer, timeout, _BATCH)
        if any(record.error() and record.error().code() == KafkaError._AUTO_OFFSET_RESET for record in records):
            raise ChannelFailed(f"{self._topic}: records were deleted before they were read here")
        return records

    def _decoded(self, record: Record) -> list[tuple[Record, Signal]]:
        try:
            signal = Signal.decode(record.value())
            if signal.kind is RecordKind.CHECKPOINT and signal.epoch > record.offset():
                raise Undecodable("malformed", "a checkpoint tells of what comes behind it")
        except Undecodable as error:
            pass_over(record, error)
            return []
        if signal.kind is RecordKind.CHECKPOINT and signal.epoch not in self._checkpoints:
            self._checkpoints = [*self._checkpoints, signal.epoch][-2:]
        return [(record, signal)]

    def trim(self) -> None:
        """Deletes records that no reader needs that begins now, or is behind by less than a checkpoint. It does not wait."""
        if len(self._checkpoints) == 2:
            run_once("trim", lambda: self._truncate(min(self._checkpoints)))

    def _truncate(self, offset: int) -> None:
        try:
            self._cluster.topics.truncate(self._topic, {0: offset})
        except KafkaExecError as error:
            logger.debug("what is done with in %s is not deleted: %s", self._topic, error)

    def close(self) -> None:
        """Ends the reader."""
        self._consumer.close()
        self._cluster.forget(self._consumer)


def present(cluster: Cluster, spec: TopicSpec) -> ClaimLog:
    """The present state of the log. It waits, :data:`TIMEOUT` seconds at most, for records behind an open transaction.

    Raises:
        TopicMismatch: the topic has more than one partition.
        ConnectionFailed: the cluster does not answer.
    """
    log = SyncLog(cluster, spec)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not log.is_read and time.monotonic() < deadline:
            for record, signal in log.read(_POLL):
                log.state.take(signal, record.offset(), record.timestamp()[1] / 1000)
        return log.state
    finally:
        log.close()
