"""Records that nobody can read, where nobody loses anything by them: passed over, counted, and told of now and then."""

from __future__ import annotations

import logging
from collections import Counter

from confluent_kafka import Message as Record

from kafka_exec.errors import KafkaExecError
from kafka_exec.kafka.client import native

logger = logging.getLogger("kafka_exec")

_lock = native.lock()
_counts = Counter[str]()


def pass_over(record: Record, error: Exception) -> None:
    """Counts a record of which nothing can be made, and tells of the first, the tenth, the hundredth … of its topic."""
    count(record.topic(), f"offset {record.offset()} of partition {record.partition()}", error)


def count(topic: str, where: str, error: Exception) -> None:
    """The same for a record that is not at hand any more."""
    with _lock:
        _counts[topic] += 1
        number = _counts[topic]
    if str(number).strip("0") == "1":
        logger.warning(
            "%s: %d of its records could not be read so far, and are passed over; the last one, %s: %s",
            *(topic, number, where, error if isinstance(error, KafkaExecError) else repr(error)),
            # Of what a decoder has refused, its words say all.
            exc_info=None if isinstance(error, (KafkaExecError, ValueError)) else error,
        )


def passed_over(topic: str) -> int:
    """How many records of a topic this process has passed over."""
    return _counts[topic]
