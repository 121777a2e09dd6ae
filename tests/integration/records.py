"""Records of the topics that a test has filled, read beside all that is under test."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import PATIENCE, until


def read(kafka: EmbeddedKafka, topic: str, count: int) -> list[Message]:
    """So many records of a topic, which may be still to come."""
    found: list[Message] = []

    def more() -> bool:
        if not consumer.assignment():
            # None as long as the topic is not there.
            partitions = consumer.list_topics(topic, timeout=5).topics[topic].partitions
            consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in partitions])
        found.extend(record for record in consumer.consume(5000, 0.2) if record.error() is None)
        return len(found) >= count

    with closing(_consumer(kafka)) as consumer:
        until(more, what=f"{count} records in {topic}")
    return found


def committed(kafka: EmbeddedKafka, topic: str) -> Iterator[Message]:
    """All committed records of a topic, up to the end that it has now. It waits for the transactions that are open there.

    A commit has succeeded before its markers are in all partitions: a reader that stopped at the first open transaction
    would find its records in one partition and not in another.
    """
    admin = kafka.admin()  # which must live for as long as its answers are waited for
    with closing(_consumer(kafka)) as consumer:
        wanted = [TopicPartition(topic, n) for n in consumer.list_topics(topic, 10).topics[topic].partitions]
        spans = admin.list_offsets(dict.fromkeys(wanted, OffsetSpec.latest()))
        left = {each.partition: span.result(10).offset for each, span in spans.items()}
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in left])
        deadline = time.monotonic() + PATIENCE
        while left:
            assert time.monotonic() < deadline, f"{topic} cannot be read up to its end: {left}"
            record = consumer.poll(0.5)
            if record is None:
                continue
            number, error = record.partition(), record.error()
            if error is None:
                yield record
            elif error.code() == KafkaError._PARTITION_EOF and record.offset() >= left.get(number, math.inf):
                del left[number]


def _consumer(kafka: EmbeddedKafka) -> Consumer:
    return Consumer(
        {
            **kafka.client_config(),
            "group.id": "records",  # which is never joined
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            # The end is told when a fetch is empty, which one that waits never is where records come all the time.
            "fetch.wait.max.ms": 10,
            "enable.auto.commit": False,
        }
    )
