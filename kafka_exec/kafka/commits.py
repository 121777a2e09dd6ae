"""Committing what has ended: to the group, as the lowest unfinished offset of each partition and the ends above it."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from kafka_exec.core.journal import Progress
from kafka_exec.kafka import native

logger = logging.getLogger("kafka_exec")

#: How long a commit is tried before partitions are given away, seconds.
_TIMEOUT = 2.0


@dataclass(eq=False)
class Work:
    """A partition that a reader owns. ``alive`` turns false when it owns it no more, and true when it gets it back.

    Attributes:
        start: the committed offset with which it was last assigned.
        term: how often it was lost; what was read in an earlier term, and given to nobody, is read again.
        position: the next offset to read; -1 before the first.
        outstanding: how many records were read and not folded into ``progress`` as ended.
        held: what this process was given of it and has not ended: after an outage of the broker it is read again, and not
            started again.
        ended: offsets that ended and are not folded yet; any thread may append.
        committed: the offset and metadata that were sent last.
    """

    topic: str
    partition: int
    progress: Progress
    start: int
    alive: bool = True
    term: int = 0
    position: int = -1
    outstanding: int = 0
    held: set[int] = field(default_factory=set)
    ended: deque[int] = field(default_factory=deque)
    committed: tuple[int, str] | None = None

    def take(self, offset: int) -> bool:
        """Notes that a record is given to this process. False: it must not be, the partition is not owned now."""
        self.held.add(offset)
        if not self.alive:
            self.held.discard(offset)
        return self.alive

    def lose(self) -> None:
        """The partition is owned no more."""
        self.alive = False
        self.term += 1

    def revive(self, committed: Progress) -> None:
        """The partition is owned again: what was committed meanwhile is added to what this process knows."""
        self.progress.merge(committed)
        self.start, self.position, self.committed = committed.low, -1, None
        self.outstanding = len(self.held)
        self.alive = True


def commit(consumer: Consumer, works: Iterable[Work]) -> None:
    """Sends the commits that are due; what becomes of them is for :func:`note_refusals`."""
    if due := _due(works):
        consumer.commit(offsets=due, asynchronous=True)


def note_refusals(works: Mapping[int, Work], error: KafkaError | None, partitions: Iterable[TopicPartition]) -> None:
    """The consumer's ``on_commit``: what was refused is sent again at the next turn."""
    for partition in partitions:
        work = works.get(partition.partition)
        if (error or partition.error) is not None and work is not None:
            work.committed = None


def commit_now(consumer: Consumer, works: Collection[Work]) -> None:
    """Commits and waits until Kafka has taken it; a rebalance under way makes it refuse for a moment."""
    deadline = time.monotonic() + _TIMEOUT
    for work in works:
        work.committed = None  # an earlier one may still be under way, and fail
    while due := _due(works):
        try:
            answers = consumer.commit(offsets=due, asynchronous=False)
        except KafkaException as error:
            refusal: KafkaError | None = error.args[0]
        else:
            refusal = next((p.error for p in answers if p.error is not None), None)
        if refusal is None:
            return
        for work in works:
            work.committed = None
        if time.monotonic() > deadline or refusal.fatal():
            logger.warning("what ended in %s was not committed: %s", due[0].topic, refusal.str())
            return
        native.sleep(0.02)


def _due(works: Iterable[Work]) -> list[TopicPartition]:
    """The commits of all partitions whose progress differs from what was sent."""
    due = []
    for work in works:
        while work.ended:
            offset = work.ended.popleft()
            work.progress.end(offset)
            work.held.discard(offset)
            work.outstanding -= 1
        mark = (work.progress.low, work.progress.metadata())
        if mark != work.committed:
            work.committed = mark
            due.append(TopicPartition(work.topic, work.partition, *mark))
    return due
