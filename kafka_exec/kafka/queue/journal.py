"""The journal of a queue's topic, as a worker reads it: restoring partitions, and hearing what other workers tell."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.reading import TIMEOUT, Reading
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.queue.checkpoints import encode_checkpoint
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.restoring import JournalEntry, restore
from kafka_exec.errors import ConnectionFailed, KafkaExecError, Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.oddities import count
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.queue.journal_writer import JournalWriter

logger = logging.getLogger("kafka_exec")

#: Called with a partition and the value of a record of its journal.
Heard = Callable[[int, bytes | None], None]

#: Called with a partition.
Missed = Callable[[int], None]


class Journal:
    """A worker's view of one topic's journal.

    Args:
        queue: the queue's topic.
        spec: the journal's topic; it has as many partitions as the queue's.
        node: the node whose incarnation writes.

    Attributes:
        writer: writes the transitions of this process.
        identity: the id by which the queue's topic differs from an earlier one of the same name.
        heard: called in the log reader's thread with all records of the partitions that are followed.
        missed: called there before a record, if those before it were deleted before this process had read them.
    """

    def __init__(self, cluster: Cluster, queue: str, spec: TopicSpec, node: Node) -> None:
        self.identity = ""
        self.incarnation = node.incarnation
        self.node = node
        self.writer = JournalWriter(cluster.journal_publisher, spec.name, node.incarnation)
        self.heard: Heard = lambda partition, value: None
        self.missed: Missed = lambda partition: None
        self._queue = queue
        self._cluster = cluster
        self._spec = spec
        self._topic = spec.name
        self._sinks: dict[int, _Sink] = {}

    def restore(self, found: Mapping[int, Progress | None]) -> dict[int, Ledger]:
        """Restores the ledgers of some partitions, by their commits, None if there is none, and the journal since then.

        The journal goes on to follow these partitions, until :meth:`leave`; see :meth:`listen`.

        Raises:
            ConnectionFailed: a journal could not be read to its end.
        """
        self.make(found)
        begins = {each: 0 if progress is None else progress.folded for each, progress in found.items()}
        sinks = {each: _Sink(each, self, begin) for each, begin in begins.items()}
        self.leave(found)
        self._sinks.update(sinks)
        try:
            ends = self._cluster.log.ends(self._topic, begins)
            self._cluster.log.follow(self._topic, begins, {each: sink.take for each, sink in sinks.items()})
            self._read_to(ends)
            ledgers = {each: self._restored(each, sinks[each].taken(), progress) for each, progress in found.items()}
            self._sum_up({each: ledgers[each] for each in found if found[each] is None and sinks[each].position})
        except KafkaExecError:
            self.leave(found)
            raise
        return ledgers

    def make(self, partitions: Iterable[int], *, anew: bool = False) -> None:
        """Makes the journal's topic, with these partitions, if it is not there. ``anew``: it was there, and may be gone."""
        if anew:
            self._cluster.topics.forget(self._topic)
            self.writer.is_missing = False
        self._cluster.topics.ensure(self._spec)
        self._cluster.topics.grow(self._topic, max(partitions, default=-1) + 1)

    def _sum_up(self, uncommitted: Mapping[int, Ledger]) -> None:
        """Writes checkpoints of ledgers that were restored without a commit, so that the next commit can name them."""
        for each, ledger in uncommitted.items():
            stream = self.writer.find(each, self.identity)
            heard = self._sinks[each].position
            stream.checkpoint(
                encode_checkpoint(ledger, self.incarnation, heard), partial(ledger.progress.check_in, folded=heard)
            )
        if not self.writer.flush(uncommitted, TIMEOUT):
            raise ConnectionFailed(f"a checkpoint of {self._topic} was not written within {TIMEOUT:.0f} s")

    def _restored(self, partition: int, journal: list[JournalEntry], committed: Progress | None) -> Ledger:
        ledger, oddities = restore(self.identity, journal, committed)
        for _ in range(oddities):
            error = Undecodable("malformed", "it is no record of a journal")
            count(self._topic, f"of partition {partition}", error)
        return ledger

    def _read_to(self, ends: Mapping[int, int]) -> None:
        def left() -> int:
            return sum(max(0, end - self._sinks[each].position) for each, end in ends.items())

        reading = Reading(self._topic, left(), time.monotonic())
        while now_left := left():
            now = time.monotonic()
            if (line := reading.look(now_left, now)) is not None:
                logger.info(line)
            if reading.is_stuck(now):
                raise ConnectionFailed(
                    f"{self._topic} could not be read to its end: nothing has come for {TIMEOUT:.0f} s"
                )
            native.sleep(0.002)

    def listen(self, partitions: Iterable[int]) -> None:
        """Hands on the records of some partitions, from where :meth:`restore` has ended."""
        for each in partitions:
            if (sink := self._sinks.get(each)) is not None:
                sink.listen()

    def watch(self, partition: int, since: int | None = None) -> None:
        """Follows a partition, until :meth:`leave`, unless it is followed already.

        Args:
            since: an offset; None: the present end.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        if partition not in self._sinks:
            begin = self._cluster.log.ends(self._topic, [partition])[partition] if since is None else since
            sink = _Sink(partition, self, begin)
            self._cluster.log.follow(self._topic, {partition: begin}, {partition: sink.take})
            sink.listen()
            self._sinks[partition] = sink

    def identify(self) -> None:
        """Looks up the identity of the topic that has the queue's name now.

        Raises:
            ChannelFailed: there is no such topic.
        """
        self.identity = self._cluster.topics.identity(self._queue)

    def trim(self, marks: Mapping[int, tuple[int, int]], before: float) -> None:
        """Deletes records that are older than a time, epoch seconds, and below the offsets of queue and journal.

        Raises:
            KafkaExecError: the cluster does not do it.
        """
        topics = self._cluster.topics
        topics.trim(self._queue, {partition: queue for partition, (queue, _) in marks.items()}, before)
        topics.trim(self._topic, {partition: journal for partition, (_, journal) in marks.items()}, before)

    def leave(self, partitions: Iterable[int]) -> None:
        """Ends following some partitions."""
        for each in list(partitions):
            if (sink := self._sinks.pop(each, None)) is not None:
                self._cluster.log.unsubscribe(sink.take)

    def follows(self, partition: int) -> bool:
        """True if this process follows a partition, and so knows the transitions that others tell."""
        return partition in self._sinks

    def position(self, partition: int) -> int | None:
        """The offset up to which a partition that is followed was handed on; None if it is not followed."""
        sink = self._sinks.get(partition)
        return None if sink is None else sink.position


class _Sink:
    """The records that are read of one partition: kept until :meth:`listen`, and handed on afterwards."""

    def __init__(self, partition: int, journal: Journal, begin: int) -> None:
        self.position = begin
        self._partition = partition
        self._journal = journal
        self._kept: list[JournalEntry] | None = []
        self._lock = native.lock()

    def take(self, record: Record) -> None:
        """Takes a record of the journal. Called in the log reader's thread."""
        with self._lock:
            kept = self._kept
            if kept is not None:
                kept.append(JournalEntry(record.offset(), record.value()))
        if kept is None:
            if record.offset() > self.position:
                self._journal.missed(self._partition)
            self._journal.heard(self._partition, record.value())
        self.position = record.offset() + 1

    def taken(self) -> list[JournalEntry]:
        """The records that were kept so far; later ones are kept on."""
        with self._lock:
            taken, self._kept = self._kept or [], []
            return taken

    def listen(self) -> None:
        """Hands on the records that were kept, and from now on each one that comes."""
        with self._lock:
            kept, self._kept = self._kept or [], None
            for entry in kept:
                self._journal.heard(self._partition, entry.value)
