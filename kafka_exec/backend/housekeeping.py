"""Clean-up of state records: expired ones are forgotten, and tasks whose worker and message are gone are failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from celery import states

from kafka_exec.backend.records import request_of
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.core.message.envelope import dead_letter_headers
from kafka_exec.core.nodes.heartbeat import LOST_AFTER, is_lost
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import LostRecord
from kafka_exec.kafka.nodes.node import last_heard
from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.queue.letters import bury
from kafka_exec.kafka.results.states import StateReader
from kafka_exec.kafka.results.step_log import StepLog

logger = logging.getLogger("kafka_exec")


class HousekeepingBackend(Protocol):
    """The part of a result back end that housekeeping needs."""

    @property
    def space(self) -> Any:
        """The cluster, topic names and settings."""

    @property
    def reader(self) -> StateReader:
        """The back end's reader of the state records."""

    @property
    def steps(self) -> StepLog:
        """The records of durable tasks."""

    def has_expired(self, record: StateRecord) -> bool:
        """True if a task ended longer than ``result_expires`` ago."""

    def forget(self, task_id: str) -> None:
        """Deletes the stored state of a task."""

    def store_result(self, task_id: str, result: Any, state: str, *, request: Any) -> Any:
        """Stores the state and result of a task."""


def lost(backend: HousekeepingBackend, records: Iterable[StateRecord]) -> Iterator[StateRecord]:
    """The state records among these whose tasks are running, and whose workers are lost.

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


def clean_up(backend: HousekeepingBackend) -> None:
    """Forgets expired results, and fails the tasks whose worker and whose message are both gone.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    running, forgotten = [], set[str]()
    for record in backend.reader.scan():
        if backend.has_expired(record):
            backend.forget(record.id)
            forgotten.add(record.id)
        elif record.state is State.RUNNING:
            running.append(record)
    backend.steps.erase_all(forgotten)
    for record in lost(backend, running):
        if _message_is_gone(backend, record):
            _fail(backend, record)


def _message_is_gone(backend: HousekeepingBackend, record: StateRecord) -> bool:
    if record.topic is None or record.partition is None or record.offset is None:
        return False
    cluster = backend.space.cluster
    if record.partition >= (cluster.topics.partitions(record.topic, fresh=True) or 0):
        return True
    return bool(record.offset < cluster.log.begin(record.topic, record.partition, 0))


def _fail(backend: HousekeepingBackend, record: StateRecord) -> None:
    error = LostRecord(
        f"its worker {record.worker} is gone, and its message was deleted from {record.topic}, partition "
        f"{record.partition}, offset {record.offset}, before it had ended: send it again"
    )
    logger.error("task %s is lost: %s", record.id, error)
    headers = dead_letter_headers(
        (("task", (record.name or "").encode()),),
        reason="lost-record",
        error=str(error),
        topic=record.topic or "",
        partition=record.partition or 0,
        offset=record.offset or 0,
    )
    letters = backend.space.dead_letters(record.queue or "")
    bury(backend.space.cluster.publisher, Outgoing(letters, None, record.id, headers))
    backend.store_result(record.id, error, states.FAILURE, request=request_of(record))
