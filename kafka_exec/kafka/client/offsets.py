"""Offsets as the cluster tells them: the beginnings and ends of partitions, and the commits of a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.kafka.client.failures import persist

T = TypeVar("T")

# Timestamps of special meaning in Kafka's ListOffsets request.
LATEST = -1
EARLIEST = -2

#: A topic that was made a moment ago is not known to all brokers.
LOOKING = (Failure.PASSES, Failure.MISSING)


def look_up(consumer: Consumer, wanted: Sequence[TopicPartition], most: float) -> list[TopicPartition]:
    """The offsets of timestamps, which ``wanted`` has in the place of offsets; -1 if no record is so late.

    Args:
        most: the seconds that it may take.

    Raises:
        ConnectionFailed: the cluster has not answered for all partitions in this time.
    """
    if not wanted:
        return []
    topic = wanted[0].topic
    marks = {(p.topic, p.partition) for p in wanted if p.offset in (LATEST, EARLIEST)}

    def ask(timeout: float) -> list[TopicPartition]:
        found = answered(consumer.offsets_for_times(list(wanted), timeout))
        if any(p.offset < 0 and (p.topic, p.partition) in marks for p in found):
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        return found

    return _ask_leaders(consumer, topic, ask, most)


def span(consumer: Consumer, topic: str, partition: int, most: float) -> tuple[int, int]:
    """The offset of a partition's first record, and the one after its last.

    Raises:
        ConnectionFailed: the cluster has not answered within ``most`` seconds.
    """

    def ask(timeout: float) -> tuple[int, int]:
        first, last = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout)
        return int(first), int(last)

    return _ask_leaders(consumer, topic, ask, most)


def _ask_leaders(consumer: Consumer, topic: str, ask: Callable[[float], T], most: float) -> T:
    """Asks the leaders of partitions. The client knows them by metadata, which it asks for too seldom by itself."""
    return persist(
        ask,
        f"finding the offsets of {topic}",
        most,
        LOOKING,
        between=lambda timeout: consumer.list_topics(topic, timeout),
    )


def committed(consumer: Consumer, partitions: Sequence[TopicPartition], most: float) -> list[TopicPartition]:
    """The offsets of partitions that the consumer's group has committed.

    Raises:
        ConnectionFailed: the cluster has not answered for all of them within ``most`` seconds.
        Forbidden: this user may not read them.
    """
    if not partitions:
        return []
    return persist(
        lambda timeout: answered(consumer.committed(list(partitions), timeout)),
        f"reading what is committed of {partitions[0].topic}",
        most,
    )


def answered(partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
    """The partitions as they are, if there is an answer for each.

    Raises:
        KafkaException: one of them has an error instead.
    """
    for each in partitions:
        if each.error is not None:
            raise KafkaException(each.error)
    return list(partitions)
