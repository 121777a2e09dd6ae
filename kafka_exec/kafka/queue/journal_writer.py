"""Writing the journal of a queue's topic: the transitions of each partition's tasks, many in one record."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.core.queue.transitions import ENDED, Transition, encode, object_of, transitions_of
from kafka_exec.errors import KafkaExecError, MessageTooLarge
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import failure
from kafka_exec.kafka.publish import meters
from kafka_exec.kafka.publish.publisher import Publisher

logger = logging.getLogger("kafka_exec")

#: The time between two writes while tasks begin and end, seconds: one record has all transitions of a partition.
_FLUSH = 0.02

#: After so many of these times without a write, the thread that tells a transition writes.
_LATEST = 5

#: The time after the last transition from which on the next one is written at once again, seconds.
_BUSY = 0.2

#: A record of more bytes is parted, so that no topic refuses it.
_LONGEST = 256 * 1024


class _Entry(NamedTuple):
    """A record to write. ``after``: the last number of :meth:`Stream.tell` whose transitions are in records before it."""

    stream: Stream
    value: bytes
    after: int
    on_written: Callable[[int], None] | None


class JournalWriter:
    """The writer of one topic's journal. It is thread-safe and does not wait; refused records are sent again.

    Args:
        topic: the journal's topic.
        incarnation: the incarnation that writes.

    Attributes:
        is_missing: Kafka has refused records since it has no such topic.
    """

    def __init__(self, publisher: Publisher, topic: str, incarnation: str) -> None:
        self.topic = topic
        self.incarnation = incarnation
        self.lock = native.lock()
        self.is_missing = False
        self._publisher = publisher
        self._streams: list[Stream] = []
        self._last_told = self._written = float("-inf")
        self._is_served = False
        self._refused: deque[_Entry] = deque()

    def stream(self, partition: int, queue: str) -> Stream:
        """A new stream of transitions of a partition. ``queue``: the id of the queue's topic to which its offsets belong."""
        stream = Stream(self, partition, queue)
        with self.lock:
            # A stream of a topic that is gone is kept only while its last records are under way.
            self._streams = [each for each in self._streams if each.partition != partition or not each.is_flushed]
            self._streams.append(stream)
        return stream

    def find(self, partition: int, queue: str) -> Stream:
        """The stream that this process has of a partition, or a new one. ``queue``: as in :meth:`stream`."""
        found = (each for each in reversed(self._streams) if (each.partition, each.queue) == (partition, queue))
        return next(found, None) or self.stream(partition, queue)

    def note(self) -> None:
        """Notes that a transition was told: it is written at once, or together with others a moment later if there are many.

        The lock is held.
        """
        now = self._last_told = time.monotonic()
        # The thread that serves may be busy with something else, such as a rebalance.
        if not self._is_served or now - self._written > _LATEST * _FLUSH:
            self.write_untold()

    def write_untold(self) -> None:
        """Writes the transitions that are in no record yet. The lock is held."""
        for stream in self._streams:
            stream.write_untold()
        self._written = time.monotonic()

    def patience(self, longest: float) -> float:
        """The time that the serving thread may poll now, seconds. While it is short, transitions wait for this thread."""
        self._is_served = time.monotonic() - self._last_told < _BUSY
        if self._is_served:
            return min(longest, _FLUSH)
        with self.lock:
            self.write_untold()
        return longest

    def retire(self) -> None:
        """Notes that no thread serves any more: from now on each transition is written at once."""
        with self.lock:
            self._is_served = False
            self.write_untold()

    def serve(self, timeout: float = 0.0) -> None:
        """Takes in Kafka's answers to written records, and sends refused ones again. To be called often.

        Args:
            timeout: the time to wait for an answer, seconds.
        """
        with self.lock:
            self.write_untold()
        try:
            self._publisher.serve(timeout)
        except KafkaExecError as error:
            logger.warning(f"writing the journal {self.topic}: {error}")
        for _ in range(len(self._refused)):
            self.send(self._refused.popleft())

    def flush(self, partitions: Iterable[int], timeout: float) -> bool:
        """Waits until all transitions of some partitions are durable. Returns False if not within ``timeout`` seconds."""
        wanted = set(partitions)
        return self.wait(
            lambda: all(each.is_flushed for each in self._streams if each.partition in wanted), timeout, pause=0.002
        )

    def wait(self, condition: Callable[[], bool], timeout: float, pause: float) -> bool:
        """Serves until a condition holds. Returns False if it does not within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        self.serve()
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.serve(pause)
        return True

    def send(self, entry: _Entry) -> None:
        """Sends a record."""
        try:
            self._publisher.enqueue(self.topic, entry.value, entry.stream.partition, partial(self._settle, entry))
        except MessageTooLarge:
            entry.stream.give_up(entry)
        except KafkaExecError as error:
            logger.debug("the journal %s is not written yet: %s", self.topic, error)
            self._refused.append(entry)

    def _settle(self, entry: _Entry, error: KafkaError | None, record: Record) -> None:
        """Notes how the write of an entry has ended. Called in the producer's thread."""
        if error is None:
            meters.journaled(record)
            entry.stream.settle(entry, record.offset())
        elif failure(error) is Failure.TOO_LARGE:
            entry.stream.give_up(entry)
        else:
            self.is_missing = self.is_missing or failure(error) is Failure.MISSING
            self._refused.append(entry)


class Stream:
    """The transitions of one partition, in the order in which they are told; see :meth:`JournalWriter.stream`.

    Attributes:
        partition, queue: as in :meth:`JournalWriter.stream`.
        written_to: the offset of its last record that Kafka has acknowledged; None if there is none.
    """

    def __init__(self, writer: JournalWriter, partition: int, queue: str) -> None:
        self.partition = partition
        self.queue = queue
        self.written_to: int | None = None
        self._writer = writer
        # The number that :meth:`tell` gave last, and the last one of which the transitions are in a record.
        self._told = self._in_records = 0
        self._unacknowledged: list[_Entry] = []
        # The transitions that are in no record yet, by task, each task's in the order in which they were told.
        self._untold: dict[int, list[tuple[Transition, ...]]] = {}

    def tell(self, *transitions: Transition) -> int:
        """Writes transitions of one task, all or none. Returns a number by which :meth:`is_durable` knows them: 1, 2, …"""
        with self._writer.lock:
            self._told += 1
            of_task = self._untold.setdefault(transitions[0].offset, [])
            if transitions[0].kind == ENDED:
                of_task.clear()  # no worker needs the transitions before an end
            of_task.append(transitions)
            self._writer.note()
            return self._told

    def checkpoint(self, values: Sequence[bytes], on_written: Callable[[int], None]) -> None:
        """Writes a checkpoint in one or more records. ``on_written`` is called with the offset of the first."""
        offsets: list[int] = []

        def written(offset: int) -> None:
            offsets.append(offset)
            if len(offsets) == len(values):
                on_written(min(offsets))

        with self._writer.lock:
            self._writer.write_untold()
            for value in values:
                self._write(value, written)

    def write_untold(self) -> None:
        """Writes the transitions that are in no record yet. The writer's lock is held."""
        by_task, self._untold = self._untold, {}
        if by_task:
            self._write_parted(list(itertools.chain.from_iterable(by_task.values())))
        self._in_records = self._told

    def _write_parted(self, groups: Sequence[tuple[Transition, ...]]) -> None:
        value = encode(self._writer.incarnation, self.queue, itertools.chain.from_iterable(groups))
        if len(value) <= _LONGEST or len(groups) == 1:
            self._write(value, None)
            return
        half = len(groups) // 2
        self._write_parted(groups[:half])
        self._write_parted(groups[half:])

    def _write(self, value: bytes, on_written: Callable[[int], None] | None) -> None:
        entry = _Entry(self, value, self._in_records, on_written)
        self._unacknowledged.append(entry)
        self._writer.send(entry)

    def settle(self, entry: _Entry, offset: int) -> None:
        """Notes that a record is in the journal at an offset. Called in the producer's thread."""
        with self._writer.lock:
            self._unacknowledged.remove(entry)
            self.written_to = max(self.written_to or 0, offset)
        if entry.on_written is not None:
            entry.on_written(offset)

    def give_up(self, entry: _Entry) -> None:
        """Gives up a record that is too large, of a checkpoint: new owners begin at the one before it."""
        logger.warning(f"a checkpoint of {self._writer.topic} is too large: a new owner of its partition reads more")
        self._unacknowledged.remove(entry)

    def under_way(self) -> list[Transition]:
        """The transitions that were told, and that Kafka has not acknowledged."""
        with self._writer.lock:
            self._writer.write_untold()
            values = [each.value for each in self._unacknowledged]
        return [transition for value in values for transition, _ in transitions_of(object_of(value))]

    @property
    def is_flushed(self) -> bool:
        """True if all that was told is durable."""
        return not self._unacknowledged and not self._untold

    def is_durable(self, number: int) -> bool:
        """True if Kafka has acknowledged the transitions up to those to which :meth:`tell` gave this number."""
        with self._writer.lock:
            return self._in_records >= number and all(each.after >= number for each in self._unacknowledged)

    def await_durable(self, number: int, timeout: float) -> bool:
        """Waits until :meth:`is_durable`. Returns False if that does not come within ``timeout`` seconds."""
        return self.is_durable(number) or self._writer.wait(lambda: self.is_durable(number), timeout, pause=0.001)
