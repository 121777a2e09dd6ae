"""Trials of each operation that needs a right, on a topic of their own, which is deleted in the end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from kafka_exec.core.cluster.names import Topics, escape
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.doctor.access import Trial
from kafka_exec.errors import Forbidden
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.complaints import Setback
from kafka_exec.kafka.cluster.admin import administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import history
from kafka_exec.kafka.publish.transactions import Transactor


class Tried(NamedTuple):
    """The outcomes of the trials.

    Attributes:
        results: the error of each operation that was tried; None: it has succeeded.
        clock: when a record was sent and when it was confirmed, by this machine's clock, with its time by Kafka's between
            them, epoch seconds; None if none was written and read.
    """

    results: dict[Trial, str | None]
    clock: tuple[float, float, float] | None


def try_all(cluster: Cluster, topics: Topics) -> Tried:
    """Tries all operations.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    ours = f"{escape(topics.prefix)}.doctor"
    name = f"{ours}-{uuid.uuid4().hex[:8]}"
    spec = TopicSpec(name, 1, {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"})
    found = _Trials()
    found.attempt(Trial.CREATE, lambda: cluster.topics.ensure(spec))
    if found.results[Trial.CREATE] is not None:
        return Tried(found.results, None)
    found.attempt(Trial.DESCRIBE, lambda: cluster.topics.check(spec))
    sent = time.time()
    found.attempt(Trial.WRITE, lambda: cluster.publisher.send(name, b"doctor", partition=0, at_once=True))
    confirmed, stamped = time.time(), list[float]()
    if found.results[Trial.WRITE] is None:
        found.attempt(Trial.READ, lambda: stamped.extend(_times(cluster, name)))
    found.attempt(Trial.COMMIT, lambda: native.call(_commit, cluster, name))
    found.attempt(Trial.TRANSACT, lambda: native.call(_transact, cluster, ours))
    found.attempt(Trial.DELETE, lambda: cluster.topics.delete([name]))
    return Tried(found.results, (sent, stamped[0], confirmed) if stamped else None)


class _Trials:
    """The results so far."""

    def __init__(self) -> None:
        self.results: dict[Trial, str | None] = {}

    def attempt(self, trial: Trial, act: Callable[[], object]) -> None:
        """Tries an operation; that Kafka forbids it is its result."""
        self.results[trial] = None
        try:
            act()
        except Forbidden as error:
            self.results[trial] = str(error)
        except Setback as error:
            if not isinstance(error.__cause__, Forbidden):
                raise error.__cause__ or error
            self.results[trial] = str(error)


def _times(cluster: Cluster, topic: str) -> list[float]:
    return [record.timestamp()[1] / 1000 for batch in history(cluster, topic, 0, 1) for record in batch]


def _commit(cluster: Cluster, name: str) -> None:
    offsets = ConsumerGroupTopicPartitions(name, [TopicPartition(name, 0, 0)])
    with administration(cluster) as admin:
        admin.ask_coordinator(
            lambda client, timeout: client.alter_consumer_group_offsets([offsets], request_timeout=timeout),
            f"committing as group {name}",
        )


def _transact(cluster: Cluster, transactional_id: str) -> None:
    transactor = Transactor(cluster, transactional_id)
    try:
        transactor.open()
    finally:
        transactor.close()
