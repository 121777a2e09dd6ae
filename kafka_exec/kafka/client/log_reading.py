"""Reading logs with a consumer that joins no group: where it reads, what has come, and which errors mean something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.kafka.client.failures import failure, persist, translate


def get_to_know(consumer: Consumer, topic: str, most: float) -> None:
    """Has a consumer ask for a topic, for ``most`` seconds. One that it does not know is read a second later.

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

    They are numbers: librdkafka would look up a logical offset half a second later.
    """
    consumer.incremental_assign([TopicPartition(topic, number, offset) for number, offset in offsets.items()])


def read_no_more(consumer: Consumer, topic: str, partitions: Iterable[int]) -> None:
    """The opposite of :func:`read_from`."""
    consumer.incremental_unassign([TopicPartition(topic, number) for number in partitions])


def poll_batch(consumer: Consumer, timeout: float, most: int) -> list[Record]:
    """Whatever comes first within ``timeout`` seconds, and what is there with it. Each item may be an error of its own."""
    first = consumer.poll(timeout)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)]


def trouble_of(record: Record) -> KafkaError | None:
    """The error that has come in place of a record. None: there is a record, or nobody need do anything.

    The end of a partition is news, much passes by itself, and as no group is joined it does not matter if that is forbidden.
    """
    error: KafkaError | None = record.error()
    if error is None or failure(error) in (Failure.NEWS, Failure.PASSES):
        return None
    return None if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED else error


def is_record(record: Record, topic: str) -> bool:
    """False: the end of a partition, or an error that passes by itself.

    Raises:
        KafkaExecError: the cluster refuses to be read.
    """
    error = trouble_of(record)
    # A topic that was made a moment ago is not known to all brokers.
    if error is not None and failure(error) is not Failure.MISSING:
        raise translate(error, f"reading {topic}")
    return record.error() is None


def is_end(record: Record) -> bool:
    """Whether it is no record, but says that a partition has no more."""
    error = record.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def position_after(record: Record) -> int:
    """The position that a record, or the end of a partition, tells of; 0 for errors.

    What is no record (the end of a transaction, something compacted) is passed over; only the end tells of it.
    """
    if record.error() is None:
        return int(record.offset()) + 1
    return int(record.offset()) if is_end(record) else 0
