"""What is done about tasks that nobody else will do anything about: those that ended long ago, and those that are lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from celery import states

from kafka_exec.backend.records import request_of
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.core.message.envelope import dead_letter_headers
from kafka_exec.core.nodes.heartbeat import LOST_AFTER, is_lost
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import LostRecord
from kafka_exec.kafka.nodes.node import last_heard

if TYPE_CHECKING:
    from kafka_exec.backend import KafkaBackend

logger = logging.getLogger("kafka_exec")


def lost(backend: KafkaBackend, records: Iterable[StateRecord]) -> Iterator[StateRecord]:
    """Those of the running tasks whose workers are gone.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    space, now = backend.space, time.time()
    period = space.settings.heartbeat
    heard = last_heard(space.cluster, nodes_topic(space.topics), now - 2 * LOST_AFTER * period)
    for record in records:
        if (
            record.state is State.RUNNING
            and record.worker is not None
            and is_lost(record.started, heard.get(record.worker), now=now, period=period)
        ):
            yield record


def clean_up(backend: KafkaBackend) -> None:
    """Forgets what has expired, and fails the tasks whose worker and whose message are both gone.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    running = []
    for record in backend.reader.scan():
        if backend.has_expired(record):
            backend.forget(record.id)
        elif record.state is State.RUNNING:
            running.append(record)
    for record in lost(backend, running):
        if _message_is_gone(backend, record):
            _fail(backend, record)


def _message_is_gone(backend: KafkaBackend, record: StateRecord) -> bool:
    if record.topic is None or record.partition is None or record.offset is None:
        return False
    cluster = backend.space.cluster
    if record.partition >= (cluster.topics.partitions(record.topic, fresh=True) or 0):
        return True
    return bool(record.offset < cluster.log.begin(record.topic, record.partition, 0))


def _fail(backend: KafkaBackend, record: StateRecord) -> None:
    error = LostRecord(
        f"its worker {record.worker} is gone, and its message was deleted from {record.topic}, partition "
        f"{record.partition}, offset {record.offset}, before it had ended: send it again"
    )
    logger.error("task %s is lost: %s", record.id, error)
    space = backend.space
    space.cluster.publisher.send(
        space.dead_letters(record.queue or ""),
        None,
        key=record.id,
        headers=dead_letter_headers(
            (("task", (record.name or "").encode()),),
            reason="lost-record",
            error=str(error),
            topic=record.topic or "",
            partition=record.partition or 0,
            offset=record.offset or 0,
        ),
    )
    backend.store_result(record.id, error, states.FAILURE, request=request_of(record))
