"""The journal of a queue's topic, as a worker writes it and reads it back: the transitions of each partition's tasks."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.core.cluster.reading import TIMEOUT, Reading
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.queue.ledger import ENDED, Ledger, Transition, encode
from kafka_exec.core.queue.progress import Progress
from kafka_exec.errors import ConnectionFailed, KafkaExecError, MessageTooLarge, Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import failure
from kafka_exec.kafka.client.oddities import count
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.nodes.node import Node

logger = logging.getLogger("kafka_exec")

#: The time between two writes while tasks begin and end, seconds: one record has all transitions of a partition.
_FLUSH = 0.02

#: After so many of these times without a write, the thread that tells a transition writes.
_LATEST = 5

#: The time after the last transition from which on the next one is written at once again, seconds.
_BUSY = 0.2

Overheard = Callable[[int, bytes | None], None]


class _Entry(NamedTuple):
    """A record to write. ``after``: the last number of :meth:`Journal.tell` whose transitions are in records before it."""

    partition: int
    value: bytes
    on_written: Callable[[int], None] | None
    after: int


class Journal:
    """A worker's view of one topic's journal. Writing is thread-safe and does not wait; refused records are sent again.

    Args:
        queue: the queue's topic.
        spec: the journal's topic; it has as many partitions as the queue's.
        node: the node whose incarnation writes.

    Attributes:
        identity: the id by which the queue's topic differs from an earlier one of the same name.
    """

    def __init__(self, cluster: Cluster, queue: str, spec: TopicSpec, node: Node) -> None:
        self.identity = ""
        self._queue = queue
        self.incarnation = node.incarnation
        self.node = node
        self._cluster = cluster
        self._publisher = cluster.journal_publisher
        self._spec = spec
        self._topic = spec.name
        self._lock = native.lock()
        # By partition, the number that :meth:`tell` gave last, and the last one of which the transitions are in a record.
        self._told = Counter[int]()
        self._in_records = Counter[int]()
        self._unacknowledged: dict[int, list[_Entry]] = defaultdict(list)
        # By partition, the last offset that was acknowledged.
        self._written_to: dict[int, int] = {}
        # The transitions that are in no record yet, by partition and task, each task's in the order in which they were told.
        self._untold: dict[int, dict[int, list[Transition]]] = defaultdict(dict)
        self._last_told = self._written = float("-inf")
        self._is_served = False
        self._refused: deque[_Entry] = deque()
        self._sinks: dict[int, _Sink] = {}
        self._overheard: Overheard | None = None

    # -- writing -------------------------------------------------------------------------------------------------------

    def tell(self, partition: int, *transitions: Transition) -> int:
        """Writes transitions of one task, all or none: at once, or together with others a moment later if there are many.

        Returns:
            A number by which :meth:`is_durable` knows them.
        """
        now = self._last_told = time.monotonic()
        with self._lock:
            self._told[partition] += 1
            of_task = self._untold[partition].setdefault(transitions[0].offset, [])
            if transitions[0].kind == ENDED:
                of_task.clear()  # no worker needs the transitions before an end
            of_task.extend(transitions)
            # The thread that serves may be busy with something else, such as a rebalance.
            if not self._is_served or now - self._written > _LATEST * _FLUSH:
                self._write_untold()
            return self._told[partition]

    def checkpoint(self, partition: int, value: bytes, on_written: Callable[[int], None]) -> None:
        """Writes a checkpoint. ``on_written`` is called with its offset by :meth:`serve`."""
        with self._lock:
            self._write_untold()
            self._write(partition, value, on_written)

    def _write_untold(self) -> None:
        for partition, by_task in self._untold.items():
            transitions = itertools.chain.from_iterable(by_task.values())
            self._write(partition, encode(self.incarnation, self.identity, transitions), None)
            self._in_records[partition] = self._told[partition]
        self._untold.clear()
        self._written = time.monotonic()

    def _write(self, partition: int, value: bytes, on_written: Callable[[int], None] | None) -> None:
        entry = _Entry(partition, value, on_written, self._in_records[partition])
        self._unacknowledged[partition].append(entry)
        self._send(entry)

    def patience(self, longest: float) -> float:
        """The time that the serving thread may poll now, seconds. While it is short, transitions wait for this thread."""
        self._is_served = time.monotonic() - self._last_told < _BUSY
        if self._is_served:
            return min(longest, _FLUSH)
        with self._lock:
            self._write_untold()
        return longest

    def _send(self, entry: _Entry) -> None:
        try:
            self._publisher.enqueue(self._topic, entry.value, entry.partition, partial(self._settle, entry))
        except MessageTooLarge:
            self._give_up(entry)
        except KafkaExecError as error:
            logger.debug("the journal %s is not written yet: %s", self._topic, error)
            self._refused.append(entry)

    def _give_up(self, entry: _Entry) -> None:
        """Gives up an entry that is too large, which only a checkpoint may be. New owners begin at the one before it."""
        logger.warning(f"a checkpoint of {self._topic} is too large: a new owner of its partition reads more")
        self._unacknowledged[entry.partition].remove(entry)

    def _settle(self, entry: _Entry, error: KafkaError | None, record: Record) -> None:
        """Notes how the write of an entry has ended. Called in the producer's thread."""
        if error is not None:
            if failure(error) is Failure.TOO_LARGE:
                self._give_up(entry)
            else:
                self._refused.append(entry)
            return
        with self._lock:
            self._unacknowledged[entry.partition].remove(entry)
            self._written_to[entry.partition] = max(self._written_to.get(entry.partition, 0), record.offset())
        if entry.on_written is not None:
            entry.on_written(record.offset())

    def retire(self) -> None:
        """Notes that no thread serves any more: from now on each transition is written at once."""
        with self._lock:
            self._is_served = False
            self._write_untold()

    def serve(self) -> None:
        """Takes in Kafka's answers to written records, and sends refused ones again. To be called often."""
        with self._lock:
            self._write_untold()
        try:
            self._publisher.serve()
        except KafkaExecError as error:
            logger.warning(f"writing the journal {self._topic}: {error}")
        for _ in range(len(self._refused)):
            self._send(self._refused.popleft())

    def flush(self, partitions: Iterable[int], timeout: float) -> bool:
        """Waits until all transitions of some partitions are durable. Returns False if not within ``timeout`` seconds."""
        wanted = list(partitions)
        deadline = time.monotonic() + timeout
        self.serve()
        while any(self._unacknowledged[each] for each in wanted):
            if time.monotonic() > deadline:
                return False
            self.serve()
            native.sleep(0.002)
        return True

    def await_durable(self, partition: int, number: int, timeout: float) -> bool:
        """Waits until a partition :meth:`is_durable` up to a number. Returns False if not within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self.is_durable(partition, number):
            if time.monotonic() > deadline:
                return False
            self.serve()
            native.sleep(0.001)
        return True

    def is_durable(self, partition: int, number: int) -> bool:
        """True if Kafka has acknowledged a partition's transitions up to those to which :meth:`tell` gave this number."""
        with self._lock:
            missing = self._unacknowledged[partition]
            return self._in_records[partition] >= number and all(each.after >= number for each in missing)

    def written_to(self, partition: int) -> int | None:
        """The offset of the last record of a partition that Kafka has acknowledged; None if there is none."""
        return self._written_to.get(partition)

    # -- reading -------------------------------------------------------------------------------------------------------

    def restore(self, found: Mapping[int, Progress | None], overheard: Overheard) -> dict[int, Ledger]:
        """Restores the ledgers of some partitions, by their commits, None if there is none, and the journal since then.

        The journal goes on to follow partitions with leases, until :meth:`leave`; see :meth:`listen`.

        Raises:
            ConnectionFailed: a journal could not be read to its end.
        """
        self._cluster.topics.ensure(self._spec)
        self._cluster.topics.grow(self._topic, max(found, default=-1) + 1)
        self.identify()
        self._overheard = overheard
        sinks = {each: _Sink(self._topic, each, self.incarnation, overheard) for each in found}
        self._sinks.update(sinks)
        begins = {each: 0 if progress is None else progress.checkpoint for each, progress in found.items()}
        try:
            ends = self._cluster.log.ends(self._topic, begins)
            self._cluster.log.follow(self._topic, begins, {each: sink.take for each, sink in sinks.items()})
            self._read_to(begins, ends)
            restored = {each: sinks[each].fold(self.identity, progress) for each, progress in found.items()}
            forgotten = [each for each, progress in found.items() if progress is None and sinks[each].position]
            self._sum_up({each: restored[each] for each in forgotten})
        except KafkaExecError:
            self.leave(found)
            raise
        self.leave(each for each, ledger in restored.items() if not ledger.leases)
        return restored

    def _sum_up(self, uncommitted: Mapping[int, Ledger]) -> None:
        """Writes checkpoints of ledgers that were restored without a commit, so that the next commit can name them."""
        for each, ledger in uncommitted.items():
            self.checkpoint(each, ledger.checkpoint(), partial(setattr, ledger.progress, "checkpoint"))
        if not self.flush(uncommitted, TIMEOUT):
            raise ConnectionFailed(f"a checkpoint of {self._topic} was not written within {TIMEOUT:.0f} s")

    def _read_to(self, begins: Mapping[int, int], ends: Mapping[int, int]) -> None:
        def left() -> int:
            return sum(max(0, end - max(begins[each], self._sinks[each].position)) for each, end in ends.items())

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
        """Hands on the transitions that others tell of some partitions, from where :meth:`restore` has ended."""
        for each in partitions:
            if (sink := self._sinks.get(each)) is not None:
                sink.listen()

    def watch(self, partition: int) -> None:
        """Follows a partition from now on, until :meth:`leave`.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        if partition not in self._sinks and self._overheard is not None:
            sink = _Sink(self._topic, partition, self.incarnation, self._overheard)
            end = self._cluster.log.ends(self._topic, [partition])
            self._cluster.log.follow(self._topic, end, {partition: sink.take})
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


class _Sink:
    """The records that are read of one partition: kept until :meth:`listen`, and handed on afterwards."""

    def __init__(self, topic: str, partition: int, incarnation: str, overheard: Overheard) -> None:
        self.position = 0
        self._topic = topic
        self._partition = partition
        self._own = b'{"incarnation":"%s",' % incarnation.encode()
        self._overheard = overheard
        self._kept: list[bytes | None] | None = []
        self._lock = native.lock()

    def take(self, record: Record) -> None:
        """Takes a record of the journal. Called in the log reader's thread."""
        with self._lock:
            self.position = record.offset() + 1
            if self._kept is not None:
                self._kept.append(record.value())
                return
        value = record.value()
        if value is not None and not value.startswith(self._own):
            self._overheard(self._partition, value)

    def fold(self, queue: str, committed: Progress | None) -> Ledger:
        """The ledger of records read and of a commit. Kafka forgets the commits of a group that had no member for a week."""
        ledger = Ledger(queue, Progress(low=0))
        with self._lock:
            for number, value in enumerate(self._kept or ()):
                if not ledger.apply(value, trusted=committed is None or not number):
                    count(
                        self._topic,
                        f"of partition {self._partition}",
                        Undecodable("malformed", "it is no record of a journal"),
                    )
            self._kept = []
        if committed is not None:
            ledger.take_commit(committed)
        return ledger

    def listen(self) -> None:
        """Hands on the records that were kept, and from now on each one that comes."""
        with self._lock:
            kept, self._kept = self._kept, None
            for value in kept or ():
                self._overheard(self._partition, value)
