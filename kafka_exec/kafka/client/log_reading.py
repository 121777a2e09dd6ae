"""Logs read by a consumer that joins no group: its positions, its records, and the errors that mean something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.kafka.client.failures import failure, persist, translate


def get_to_know(consumer: Consumer, topic: str, most: float) -> None:
    """Has a consumer ask for a topic, for ``most`` seconds. It begins to read an unknown topic a second later.

    Raises:
        ConnectionFailed: the cluster does not answer for so long.
    """

    def ask(timeout: float) -> None:
        error = consumer.list_topics(topic, timeout).topics[topic].error
        if error is not None and failure(error) is Failure.PASSES:
            raise KafkaException(error)

    persist(ask, f"looking for topic {topic}", most)


def read_from(consumer: Consumer, topic: str, offsets: Mapping[int, int]) -> None:
    """Has a consumer read partitions too, from these offsets on.

    The offsets are numbers: librdkafka would look up a logical offset half a second later.
    """
    consumer.incremental_assign([TopicPartition(topic, number, offset) for number, offset in offsets.items()])


def read_no_more(consumer: Consumer, topic: str, partitions: Iterable[int]) -> None:
    """Has a consumer read some partitions no more."""
    consumer.incremental_unassign([TopicPartition(topic, number) for number in partitions])


def poll_batch(consumer: Consumer, timeout: float, most: int) -> list[Record]:
    """The record that comes first within ``timeout`` seconds, and those there with it. Each may be an error instead."""
    first = consumer.poll(timeout)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)]


def trouble_of(record: Record) -> KafkaError | None:
    """The error that has come in place of a record. None if it is a record, or an error on which no one need act.

    The end of a partition is news, many errors pass by themselves, and a forbidden group does not matter: none is joined.
    """
    error: KafkaError | None = record.error()
    if error is None or failure(error) in (Failure.NEWS, Failure.PASSES):
        return None
    return None if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED else error


def is_record(record: Record, topic: str) -> bool:
    """True if it is a record. False if it is the end of a partition, or an error that passes by itself.

    Raises:
        KafkaExecError: the cluster refuses to be read.
    """
    error = trouble_of(record)
    # A topic that was made a moment ago is not known to all brokers.
    if error is not None and failure(error) is not Failure.MISSING:
        raise translate(error, f"reading {topic}")
    return record.error() is None


def is_end(record: Record) -> bool:
    """True if it is no record, but says that a partition has no more."""
    error = record.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def position_after(record: Record) -> int:
    """The reader's position after a record, or at the end of a partition; 0 for errors.

    Offsets without a record (the end of a transaction, a compacted record) are passed over; only the end tells of them.
    """
    if record.error() is None:
        return int(record.offset()) + 1
    return int(record.offset()) if is_end(record) else 0
