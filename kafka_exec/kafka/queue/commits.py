"""Committing offsets, in the reader's thread: the lowest unfinished offset of each partition, and the ends above it."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import failure, reason_of
from kafka_exec.kafka.queue.owned import OwnedPartition

logger = logging.getLogger("kafka_exec")

#: How long a commit is tried before partitions are given away, seconds.
_TIMEOUT = 2.0


def commit(consumer: Consumer, works: Iterable[OwnedPartition]) -> None:
    """Sends the commits that are due. The consumer hands refused ones to :func:`note_refusals`."""
    if due := _due(works):
        consumer.commit(offsets=due, asynchronous=True)


def note_refusals(
    works: Mapping[int, OwnedPartition], error: KafkaError | None, partitions: Iterable[TopicPartition]
) -> None:
    """Has refused commits sent again at the next turn: the consumer's ``on_commit``."""
    for partition in partitions:
        work = works.get(partition.partition)
        if (error or partition.error) is not None and work is not None:
            work.committed = None
            work.uncommitted = True


def commit_now(consumer: Consumer, works: Collection[OwnedPartition]) -> None:
    """Commits and waits until Kafka has taken it. Kafka refuses for a moment while a rebalance is under way."""
    deadline = time.monotonic() + _TIMEOUT
    for work in works:
        work.committed = None  # an earlier commit may still be under way, and fail
    while due := _due(works):
        refusal = _refusal(consumer, due)
        if refusal is None:
            return
        for work in works:
            work.committed = None
        if time.monotonic() > deadline or failure(refusal) is Failure.FATAL:
            logger.warning("what ended in %s was not committed: %s", due[0].topic, refusal.str())
            return
        native.sleep(0.02)


def is_accepted(consumer: Consumer, works: Collection[OwnedPartition]) -> bool:
    """True if Kafka takes a commit of partitions now, as it does from their owner only. False also if none can be made."""
    for work in works:
        work.committed = None
    due = _due(works)
    if due and _refusal(consumer, due) is None:
        return True
    for work in works:
        work.committed = None
    return not works


def _refusal(consumer: Consumer, due: list[TopicPartition]) -> KafkaError | None:
    try:
        answers = consumer.commit(offsets=due, asynchronous=False)
    except KafkaException as error:
        return reason_of(error)
    return next((p.error for p in answers if p.error is not None), None)


def _due(works: Iterable[OwnedPartition]) -> list[TopicPartition]:
    """The commits of all partitions whose progress differs from the commit that was sent last."""
    due = []
    for work in works:
        mark = work.mark()
        if mark is not None and mark != work.committed:
            work.committed = mark
            due.append(TopicPartition(work.topic, work.partition, *mark))
    return due
