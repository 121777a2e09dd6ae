"""Records that cannot be read, and by which nothing is lost: they are passed over, counted, and logged now and then."""

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
    """Counts a record that cannot be read, and logs the first, the tenth, the hundredth … of its topic."""
    count(record.topic(), f"offset {record.offset()} of partition {record.partition()}", error)


def count(topic: str, where: str, error: Exception) -> None:
    """Counts a record as :func:`pass_over` does, if it is not at hand any more."""
    with _lock:
        _counts[topic] += 1
        number = _counts[topic]
    if str(number).strip("0") == "1":
        logger.warning(
            "%s: %d of its records could not be read so far, and are passed over; the last one, %s: %s",
            topic,
            number,
            where,
            error if isinstance(error, KafkaExecError) else repr(error),
            # The text of a decoder's error says all.
            exc_info=None if isinstance(error, (KafkaExecError, ValueError)) else error,
        )


def passed_over(topic: str) -> int:
    """The number of a topic's records that this process has passed over."""
    return _counts[topic]
