"""Remote control of what waits: ``inspect scheduled`` and ``inspect ordering_keys``, ``control unblock_ordering_key``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker import control
from celery.worker.control import control_command, inspect_command
from celery.worker.request import Request
from confluent_kafka import Message as Record
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.serialization import prepare_accept_content
from kombu.transport import base

from kafka_exec.core.delay import Delay
from kafka_exec.core.envelope import decode
from kafka_exec.core.lanes import Lane
from kafka_exec.errors import KafkaExecError, Undecodable
from kafka_exec.kafka import native
from kafka_exec.kafka.delays import Delays
from kafka_exec.kafka.queued import LaneView
from kafka_exec.transport.connection import Connection
from kafka_exec.transport.sources import WorkQueue

logger = logging.getLogger("kafka_exec")

#: So many of each level of delays are listed.
_MOST_SCHEDULED = 100

#: What Celery tells of each of its timer's entries.
_PRIORITY = 6


@inspect_command()  # type: ignore[untyped-decorator]
def ordering_keys(state: Any) -> list[dict[str, Any]]:
    """Keys whose tasks wait: for one of them that runs, for its retry, or for somebody's word."""
    return [_facts(queue.name, view) for queue in _queues(state) for view in queue.lanes() if view.lane.kind == "key"]


@control_command(args=[("key", str)], signature="<key>")  # type: ignore[untyped-decorator]
def unblock_ordering_key(state: Any, key: str) -> dict[str, list[str]]:
    """Lets a key's tasks go on that wait for a retry, or since one of them has failed."""
    return {"ok": [queue.name for queue in _queues(state) if queue.free(Lane("key", key))]}


@inspect_command(alias="dump_schedule")  # type: ignore[untyped-decorator]
def scheduled(state: Any, **kwargs: Any) -> list[dict[str, Any]]:
    """List of currently scheduled ETA/countdown tasks: Celery's own, and the first of those that wait in Kafka.

    Each worker tells of those that it will move to their queues.
    """
    delays: Delays | None = getattr(state.consumer, "delays", None)
    try:
        waiting = [] if delays is None else native.call(delays.first, _MOST_SCHEDULED)
    except KafkaExecError as error:
        logger.warning("what waits in Kafka could not be listed: %s", error)
        waiting = []
    told = [found for record in waiting if (found := _told_of(state, record)) is not None]
    # One that was moved meanwhile has come nearer: it counts where it was seen last.
    return list({each["request"]["id"]: each for each in (*told, *control.scheduled(state, **kwargs))}.values())


def _told_of(state: Any, record: Record) -> dict[str, Any] | None:
    """What Celery tells of a task that waits in its timer, of one that waits in Kafka; None: it is no task."""
    try:
        delay, headers = Delay.read(record.headers())
        found = decode(headers, record.value())
        message = base.Message(
            body=found.body,
            content_type=found.content_type,
            content_encoding=found.content_encoding,
            delivery_info={"exchange": found.exchange, "routing_key": delay.queue},
            properties=found.properties,
            headers=found.headers,
            accept=prepare_accept_content(state.app.conf.accept_content),
        )
        # A task of another worker has a request too.
        task = state.app.tasks.get(found.headers["task"]) or state.app.Task()
        request = Request(message, app=state.app, hostname=state.hostname, task=task)
    except (Undecodable, ContentDisallowed, DecodeError, InvalidTaskError, KeyError, ValueError, TypeError):
        return None  # whoever delivers it says so
    return {"eta": request.eta.isoformat(), "priority": _PRIORITY, "request": request.info()}


def _queues(state: Any) -> Iterator[WorkQueue]:
    connection = state.consumer.connection.connection
    return iter(connection.queues() if isinstance(connection, Connection) else ())


def _facts(queue: str, view: LaneView) -> dict[str, Any]:
    hold = view.hold
    if hold is None:
        reason = "running" if view.runs else "waiting"
    else:
        reason = "stopped" if hold.is_stop else "running" if view.runs else "retry"
    return {
        **{"queue": queue, "key": view.lane.name, "waiting": view.waiting, "state": reason},
        "task": None if hold is None else hold.task_id,
    }
