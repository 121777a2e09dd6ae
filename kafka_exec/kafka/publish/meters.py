"""The meters of this process: what it counts of its own work while its metrics are served, and nothing otherwise."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.core.results.counters import Durations
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import failure

#: Why a record was not published. All are told from the begin on, so that the first error is an increase.
_REASONS = {
    Failure.PASSES: "unreachable",
    Failure.MISSING: "no-topic",
    Failure.REFUSED: "refused",
    Failure.FORBIDDEN: "forbidden",
    Failure.TOO_LARGE: "too-large",
    Failure.WRONG: "wrong",
    Failure.FATAL: "fatal",
}
FULL = "full"
REASONS = (*_REASONS.values(), FULL)


class Turn(NamedTuple):
    """A turn of a consumer: when it was, seconds of the monotonic clock, and how many partitions the consumer owned."""

    at: float
    owned: int


class Meters:
    """The counts that a process has of its own work. Read them under :attr:`lock`.

    Attributes:
        publishing: the times from sending a record to its acknowledgement.
        errors: the records that were not published, by reason.
        journaling: the times from writing a record of a journal to its acknowledgement.
        turns: the last turn of each consumer of a queue, by topic.
        rebalances, handovers: how often partitions came, and how many were given away or lost, by topic.
        grants: the number of tasks that were given to other workers.
    """

    def __init__(self) -> None:
        self.lock = native.lock()
        self.publishing = Durations()
        self.errors: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.journaling = Durations()
        self.turns: dict[str, Turn] = {}
        self.rebalances: Counter[str] = Counter()
        self.handovers: Counter[str] = Counter()
        self.grants = 0


_active: Meters | None = None


def count_in(found: Meters | None) -> None:
    """Has this process count in these meters from now on. None: it counts nothing."""
    global _active
    _active = found


# A child of a pool serves no metrics; and a thread of its parent may have held the lock.
os.register_at_fork(after_in_child=lambda: count_in(None))


def published(error: KafkaError | None, record: Record) -> None:
    """Notes Kafka's answer to a record that was sent."""
    if (found := _active) is None:
        return
    with found.lock:
        if error is not None:
            found.errors[_REASONS.get(failure(error), _REASONS[Failure.WRONG])] += 1
        else:
            found.publishing.add(record.latency() or 0.0)


def not_sent(error: KafkaError | None) -> None:
    """Notes that a record could not be sent. ``error``: None: too many others wait to be sent."""
    if (found := _active) is not None:
        reason = FULL if error is None else _REASONS.get(failure(error), _REASONS[Failure.WRONG])
        with found.lock:
            found.errors[reason] += 1


def journaled(record: Record) -> None:
    """Notes that a record of a journal was acknowledged."""
    if (found := _active) is not None:
        with found.lock:
            found.journaling.add(record.latency() or 0.0)


def turned(topic: str, owned: int) -> None:
    """Notes a turn of the consumer of a queue's topic, which owns so many partitions."""
    if (found := _active) is not None:
        with found.lock:
            found.turns[topic] = Turn(time.monotonic(), owned)


def left(topic: str) -> None:
    """Notes that the consumer of a queue's topic has left its group."""
    if (found := _active) is not None:
        with found.lock:
            found.turns.pop(topic, None)


def assigned(topic: str) -> None:
    """Notes that the group of a queue's topic has given partitions to this member, or has confirmed those that it has."""
    if (found := _active) is not None:
        with found.lock:
            found.rebalances[topic] += 1


def handed_over(topic: str, partitions: int) -> None:
    """Notes that so many partitions of a queue's topic have gone from this member."""
    if (found := _active) is not None:
        with found.lock:
            found.handovers[topic] += partitions


def granted(tasks: int) -> None:
    """Notes that so many tasks were given to other workers."""
    if (found := _active) is not None:
        with found.lock:
            found.grants += tasks
