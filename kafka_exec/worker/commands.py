"""Remote control of waiting tasks: ``scheduled``, ``query_task``, ``ordering_keys`` and ``unblock_ordering_key``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from celery.utils.functional import maybe_list
from celery.worker import control
from celery.worker.control import Panel, control_command, inspect_command
from celery.worker.request import Request
from confluent_kafka import Message as Record
from kombu.serialization import prepare_accept_content
from kombu.transport import base

from kafka_exec.core.control.delay import DelayHeaders
from kafka_exec.core.message.envelope import Headers, decode
from kafka_exec.core.message.taskmessage import as_task
from kafka_exec.core.queue.lanes import Lane, LaneView
from kafka_exec.core.record.fields import id_text
from kafka_exec.errors import KafkaExecError, Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.control.delays import Delays
from kafka_exec.kafka.queue.finding import MOST
from kafka_exec.transport.connection import Connection
from kafka_exec.transport.sources import WorkQueue
from kafka_exec.worker.sharing import Sharing

logger = logging.getLogger("kafka_exec")

#: So many messages of each level of delays are listed.
_MOST_SCHEDULED = 100

#: The priority that Celery shows for each entry of its timer.
_PRIORITY = 6


@inspect_command()  # type: ignore[untyped-decorator]
def ordering_keys(state: Any) -> list[dict[str, Any]]:
    """Ordering keys whose tasks wait for a running task of the key, for its retry, or for an operator."""
    return [_facts(queue, view) for queue in _queues(state) for view in queue.lanes() if view.lane.kind == "key"]


@control_command(args=[("key", str)], signature="<key>")  # type: ignore[untyped-decorator]
def unblock_ordering_key(state: Any, key: str) -> dict[str, list[str]]:
    """Lets the tasks of a key go on that wait for a retry, or because a task before them has failed."""
    return {"ok": [queue.name for queue in _queues(state) if queue.free(Lane("key", key))]}


@inspect_command(alias="dump_schedule")  # type: ignore[untyped-decorator]
def scheduled(state: Any, **kwargs: Any) -> list[dict[str, Any]]:
    """List of currently scheduled ETA/countdown tasks: those in the worker's timer, and the first of those in Kafka.

    Each worker lists the tasks in Kafka that it will move to their queues.
    """
    delays: Delays | None = getattr(state.consumer, "delays", None)
    try:
        waiting = [] if delays is None else native.call(delays.first, _MOST_SCHEDULED)
    except KafkaExecError as error:
        logger.warning("what waits in Kafka could not be listed: %s", error)
        waiting = []
    told = [found for record in waiting if (found := _told_of(state, record)) is not None]
    # A task may be in both lists if it was moved meanwhile: the entry of the timer, which is later, stays.
    return list({each["request"]["id"]: each for each in (*told, *control.scheduled(state, **kwargs))}.values())


@inspect_command(variadic="ids", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
def query_task(state: Any, ids: Any, **kwargs: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """Query for task information by id; also tasks that wait for their time, their turn, or a worker that knows them."""
    ids = [str(each) for each in maybe_list(ids) or ()]
    found = dict(control.query_task(state, ids, **kwargs))
    missing = set(ids) - found.keys()
    try:
        waiting = native.call(_waiting, state, missing) if missing else []
    except KafkaExecError as error:
        logger.warning("what waits in Kafka could not be looked through: %s", error)
        waiting = []
    for stage, request in waiting:
        found.setdefault(request.id, (stage, request.info()))
    return found


def _waiting(state: Any, ids: set[str]) -> list[tuple[str, Request]]:
    """The requests of waiting tasks with these ids, each with Celery's word for its stage. It reads Kafka."""
    sharing: Sharing | None = getattr(state.consumer, "sharing", None)
    delays: Delays | None = getattr(state.consumer, "delays", None)
    here = [] if sharing is None else sharing.find(ids)
    here += [(queue.name, record) for queue in _queues(state) for record in queue.find(ids)]
    requests = [("reserved", _request(state, record, record.headers(), queue)) for queue, record in here]
    for record in [] if delays is None else delays.find(ids, MOST):
        requests.append(("scheduled", _delayed_request(state, record)))
    return [(stage, request) for stage, request in requests if request is not None]


def _told_of(state: Any, record: Record) -> dict[str, Any] | None:
    """The entry of a task that waits in Kafka, in the form of Celery's timer entries; None: the record is no task."""
    request = _delayed_request(state, record)
    if request is None or request.eta is None:
        return None
    return {"eta": request.eta.isoformat(), "priority": _PRIORITY, "request": request.info()}


def _delayed_request(state: Any, record: Record) -> Request | None:
    try:
        delay, headers = DelayHeaders.read(record.headers())
    except Undecodable:
        return None  # the node that moves the record logs it
    return _request(state, record, headers, delay.queue)


def _request(state: Any, record: Record, headers: Headers | None, queue: str) -> Request | None:
    """The request of a task that was not delivered; None: the record is no task."""
    try:
        found = decode(headers, record.value())
        message = base.Message(
            body=found.body,
            content_type=found.content_type,
            content_encoding=found.content_encoding,
            delivery_info={"exchange": found.exchange, "routing_key": queue},
            properties=found.properties,
            headers=found.headers,
            accept=prepare_accept_content(state.app.conf.accept_content),
        )
        told, body = as_task(found.headers, message.payload), message.payload
        if isinstance(body, dict):
            body = body.get("args", ()), body.get("kwargs", {}), {}
        # A task of another worker has a request too.
        task = state.app.tasks.get(told["task"]) or state.app.Task()
        return Request(
            message, app=state.app, hostname=state.hostname, task=task, headers=told, body=body, decoded=True
        )
    except Exception as error:  # the worker that delivers the record makes it a dead letter
        logger.debug("record %s of %s is no task: %r", record.offset(), record.topic(), error)
        return None


def _queues(state: Any) -> Iterator[WorkQueue]:
    connection = state.consumer.connection.connection
    return iter(connection.queues() if isinstance(connection, Connection) else ())


def _facts(queue: WorkQueue, view: LaneView) -> dict[str, Any]:
    hold = view.hold
    if hold is not None and hold.is_stop:
        reason = "stopped"
    elif view.runs:
        reason = "running"
    elif hold is not None:
        reason = "retry"
    else:
        reason = "waiting" if queue.pause_of(view.lane.name) is None else "paused"
    return {
        "queue": queue.name,
        "key": view.lane.name,
        "waiting": view.waiting,
        "state": reason,
        "task": None if hold is None else hold.task_id,
    }


def _kept(command: Callable[..., Any]) -> Callable[..., Any]:
    """A control command that revokes tasks, and keeps their ids for workers that start later."""

    @wraps(command)
    def revoke(state: Any, task_id: Any, **arguments: Any) -> Any:
        ids = [id_text(each) for each in maybe_list(task_id) or ()]
        answer = command(state, task_id=ids, **arguments)
        if (revoked := getattr(state.consumer, "revoked", None)) is not None:
            revoked.add(ids)
        if (plane := getattr(state.consumer, "control_plane", None)) is not None:
            plane.revoke(ids)
        return answer

    return revoke


for name in ("revoke", "terminate"):
    Panel.data[name] = _kept(Panel.data[name])
