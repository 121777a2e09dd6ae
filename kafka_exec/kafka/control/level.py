"""One level of the messages that wait: its owner reads ahead a little, and moves messages in transactions."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import TopicSpec, dead_topic, queue_topic
from kafka_exec.core.control.delay import DelayHeaders, at_once, level_for, wait_of
from kafka_exec.core.control.moved import MOST_AHEAD, Moved
from kafka_exec.errors import ConnectionFailed, InvalidName, NotConfirmed, Undecodable
from kafka_exec.kafka.client.log_reading import read_from, read_no_more
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.control.transactional_batch import TransactionalBatch
from kafka_exec.kafka.log.history import Fetcher, history
from kafka_exec.kafka.publish.partitioner import partition_again
from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.publish.transactions import Refused, Transactor
from kafka_exec.kafka.queue.letters import letter_of, rest_of

logger = logging.getLogger("kafka_exec")

#: The most messages of one transaction.
_BATCH = 2000

#: The owner reads messages that are due within this time, seconds, and the first one that is due later.
_LOOK_AHEAD = 2.0

#: Reading stops at so many messages, or bytes of their values, and goes on at half of it.
_MOST = 4000
_MOST_BYTES = 4 * 1024 * 1024

#: The last position is looked for in so many records at the end first, and further back only if it is not there.
_TAIL = 500

#: Messages that are asked for are read together with those between them, so many at most.
_NEAR = 20_000

_POSITION = "position"
_CLOSING = 1.0


class DelayTopics(NamedTuple):
    """The topics of the messages that wait, and of the positions up to which they were moved, with as many partitions."""

    waiting: TopicSpec
    positions: TopicSpec


class _Move(NamedTuple):
    """A message and the records that it becomes. ``outgoing`` is empty if it can be kept nowhere."""

    record: Record
    outgoing: Sequence[Outgoing]
    is_letter: bool = False


class Level:
    """A level that this process drives. Except for :meth:`fence` it is for one thread. Times are log times.

    Attributes:
        moved: the messages that were moved, if the level is fenced.
        fenced: True if this process is the only one that moves messages. Not needed before there is a message.
    """

    def __init__(self, cluster: Cluster, names: Topics, topics: DelayTopics, number: int, levels: int) -> None:
        self.number = number
        self.moved = Moved()
        self.fenced = False
        self._cluster = cluster
        self._names = names
        self._topics = topics
        self._levels = levels
        self._transactor = Transactor(cluster, f"{names.prefix}.delay.{number}")
        self._wait = wait_of(number)
        # The messages, each with the time at which it is to be moved.
        self._waiting: deque[tuple[float, Record]] = deque()
        self._bytes = 0
        self._reading = False
        # The offset to read next, and the one to take next: messages that are read and not taken are read again.
        self._next_to_read = 0
        self._next = 0
        # The messages that are to be moved ahead of their time, and those of the present batch that are.
        self._asked: set[int] = set()
        self._ahead: list[int] = []
        self._batch = TransactionalBatch(
            cluster, self._transactor, [topic.name for topic in topics], self._tell, self._instead
        )

    @property
    def has_news(self) -> bool:
        """True if there is a message and the former owner is not fenced yet."""
        return bool(self._waiting) and not self.fenced

    @property
    def next_due(self) -> float | None:
        """The time at which the first message is to be moved, 0: at once; None if no message is known."""
        if self._asked and self.fenced:
            return 0.0
        return self._waiting[0][0] if self._waiting else None

    def fence(self) -> None:
        """Makes this process the only one that moves messages, and reads what the former owner has moved.

        Raises:
            Lost, KafkaExecError: it has not succeeded.
        """
        self._waiting.clear()
        self._bytes = 0
        self._transactor.open()
        self.moved = self._last_moved()
        self._next = self.moved.position
        self.fenced = True

    @property
    def done(self) -> int:
        """The offset below which messages were moved. If they stayed, each would be there once for each of its levels."""
        return self.moved.position if self.fenced else 0

    def first(self, most: int) -> Iterator[Record]:
        """The first messages that wait, ``most`` at most; from any thread.

        Raises:
            ConnectionFailed: they could not be read.
        """
        if not self.fenced:
            return  # there is no message
        moved = self.moved
        for record in self._read(moved.position, moved.position + most):
            if not moved.has(record.offset()):
                yield record

    def _read(self, begin: int, end: int) -> Iterator[Record]:
        topic = self._topics.waiting.name
        for batch in history(self._cluster, topic, self.number, min(self._end(topic), end), begin):
            yield from batch

    def _end(self, topic: str) -> int:
        fetcher = Fetcher(self._cluster, topic)
        try:
            return fetcher.end(self.number)
        finally:
            fetcher.close(_CLOSING)

    def _last_moved(self) -> Moved:
        topic = self._topics.positions.name
        end = self._end(topic)
        for begin in dict.fromkeys((max(0, end - _TAIL), 0)):
            batches = history(self._cluster, topic, self.number, end, begin)
            found = [moved for batch in batches for moved in self._positions(batch)]
            if found:
                return found[-1]
        return Moved()

    def _positions(self, records: Iterable[Record]) -> Iterator[Moved]:
        """The messages that were moved, as records tell it, which cannot be behind the last message."""
        end = None
        for record in records:
            try:
                end = self._end(self._topics.waiting.name) if end is None else end
                yield Moved.decode(record.value(), end)
            except ValueError as error:
                pass_over(record, error)

    def flow(self, consumer: Consumer, now: float) -> None:
        """Has the consumer read on if messages are needed soon, and read no more otherwise."""
        if not self._wants_more(now):
            self.stop_reading(consumer)
        elif not self._reading:
            read_from(consumer, self._topics.waiting.name, {self.number: self._next})
            self._next_to_read = self._next
            self._reading = True

    def _wants_more(self, now: float) -> bool:
        if self._reading and self._next_to_read > self._next:
            return False
        if not self._waiting:
            return True
        share = 1.0 if self._reading else 0.5
        return not self._is_far(now) and len(self._waiting) < share * _MOST and self._bytes < share * _MOST_BYTES

    def _is_far(self, now: float) -> bool:
        """True if the messages behind the last one are not needed soon."""
        return bool(self._waiting) and self._waiting[-1][0] > now + _LOOK_AHEAD

    def stop_reading(self, consumer: Consumer) -> None:
        """Has the consumer read the level no more."""
        if self._reading:
            read_no_more(consumer, self._topics.waiting.name, [self.number])
            self._reading = False

    def take(self, records: Sequence[Record], now: float) -> None:
        """Takes messages in, in the order of their offsets; those behind one that is due later are read again then."""
        for record in records:
            self._next_to_read = record.offset() + 1
            if record.offset() >= self._next and not self._is_far(now):
                self._waiting.append((record.timestamp()[1] / 1000 + self._wait, record))
                self._bytes += len(record)
                self._next = record.offset() + 1

    def ask(self, offsets: Iterable[int]) -> None:
        """Has messages moved ahead of their time, by the next calls of :meth:`begin`, if they were not moved yet."""
        self._asked.update(offsets)

    def begin(self, now: float) -> None:
        """Begins to move the messages that are due, or some of those that are asked for; :meth:`settle` must follow.

        Raises:
            ConnectionFailed: a message that is asked for could not be read.
        """
        was_ahead, self._ahead = bool(self._ahead), []
        if self._asked and not (was_ahead and self._is_due(now)):  # in turns, so that neither waits for long
            moves = [self._move(record, now, is_early=True) for record in self._wanted()]
        else:
            moves = [self._move(record, now) for record in self._due(now)]
        if moves:
            self._batch.begin(moves)

    def _is_due(self, now: float) -> bool:
        return bool(self._waiting) and self._waiting[0][0] <= now

    def _due(self, now: float) -> Iterator[Record]:
        """Takes a batch of the messages that are due, and were not moved ahead of that, out of those that wait."""
        taken = 0
        while self._is_due(now) and taken < _BATCH:
            _, record = self._waiting.popleft()
            self._bytes -= len(record)
            if not self.moved.has(record.offset()):
                taken += 1
                yield record

    def _wanted(self) -> Iterator[Record]:
        """Reads a batch of the messages that are asked for, such as are near to each other."""
        first = min(self._asked)
        near = sorted(each for each in self._asked if each < first + _NEAR)[:_BATCH]
        self._asked.difference_update(near)
        room = MOST_AHEAD - len(self.moved.ahead)
        self._ahead = [each for each in near if not self.moved.has(each)][:room]
        found = frozenset(self._ahead)
        if found:
            yield from (each for each in self._read(self._ahead[0], self._ahead[-1] + 1) if each.offset() in found)

    def settle(self) -> None:
        """Waits until the moves that were begun are written.

        Raises:
            Lost: the level must be taken over anew, by the owner that it has then.
        """
        if (last := self._batch.settle()) is not None:
            self.moved = self._after(last)

    def _move(self, record: Record, now: float, *, is_early: bool = False) -> _Move:
        try:
            delay, headers = DelayHeaders.read(record.headers())
            headers = at_once(headers) if is_early else headers
            partition = None if is_early else level_for(delay.until - now, self._levels)
            if partition is not None:
                topic, headers = self._topics.waiting.name, record.headers()
            else:
                topic = self._existing(queue_topic(self._cluster.settings, self._names, delay.queue, delay.step))
                partition = partition_again(headers, record.key(), self._cluster.topics.partitions(topic) or 0)
            return _Move(record, [Outgoing(topic, record.value(), record.key(), headers, partition)])
        except (ConnectionFailed, NotConfirmed):
            raise
        except Exception as error:
            return self._bury(record, error)

    def _existing(self, spec: TopicSpec) -> str:
        """The name of a topic, which is made if it is missing."""
        self._batch.has_found(spec.name)
        self._cluster.topics.ensure(spec)
        return spec.name

    def _bury(self, record: Record, error: Exception) -> _Move:
        """Makes a message a dead letter of its queue, as if it had died there, so that a replay sends it there."""
        reason, topic = "undeliverable", record.topic()
        try:
            delay, headers = DelayHeaders.read(record.headers())
            queue, topic = delay.queue, self._names.queue(delay.queue, delay.step)
        except (Undecodable, InvalidName):
            reason, queue, headers = "no-delay", "delay", record.headers()
        place = f"offset {record.offset()} of partition {record.partition()}"
        logger.error("a delayed message for %s goes to the dead letters: %s (%s)", topic, error, place)
        dead = self._existing(dead_topic(self._cluster.settings, self._names, queue))
        letter = letter_of(record, dead, reason=reason, error=str(error), headers=headers, died_in=topic)
        return _Move(record, [letter], is_letter=True)

    def _tell(self, moves: Sequence[_Move]) -> list[Outgoing]:
        return [
            Outgoing(self._topics.positions.name, self._after(moves[-1]).encode(), _POSITION, partition=self.number)
        ]

    def _after(self, move: _Move) -> Moved:
        """The messages that were moved when the present batch is written up to a move."""
        offset = move.record.offset()
        if self._ahead:
            return self.moved.and_ahead(each for each in self._ahead if each <= offset)
        return self.moved.up_to(offset + 1)

    def _instead(self, move: _Move, refused: Refused) -> _Move:
        """Makes another move of a message that cannot be written: a dead letter, a part of that, or nothing at all."""
        if not move.is_letter:
            return self._bury(move.record, refused)
        if refused.is_too_large and (rest := rest_of(move.outgoing[0])) is not None:
            return move._replace(outgoing=[rest])
        logger.error("a delayed message is lost, its dead letter cannot be written: %s", refused)
        return move._replace(outgoing=[])

    def close(self) -> None:
        """Lets the level go; the new owner moves the messages that are left."""
        self._transactor.close()
