"""Conversions between Celery's result meta-data and the state record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from celery.app.task import Context
from celery.states import STARTED

from kafka_exec.backend.serial import arguments_as_json, arguments_of_json
from kafka_exec.core.message import envelope
from kafka_exec.core.record.plain import plain
from kafka_exec.core.results.lifecycle import TERMINAL, State, of_celery, previous
from kafka_exec.core.results.state_record import Note, Raised, StateRecord, TaskError

logger = logging.getLogger("kafka_exec")

#: A saved ``GroupResult`` is written under an id that no task has: its group's id after this prefix.
GROUP_PREFIX = "group:"


def record_of(
    task_id: str,
    status: str,
    result: Any,
    *,
    now: float,
    request: Any,
    started: float | None = None,
    due: float | None = None,
    traceback: Any = None,
    exception: Raised | None = None,
    children: Any = None,
    extended: bool = False,
) -> StateRecord:
    """The state record of a task's new state. ``result`` is serialized already; times are epoch seconds."""
    state = of_celery(status)
    delivery = _mapping(getattr(request, "delivery_info", None))
    place = _mapping(getattr(request, envelope.RECORD_HEADER, None))
    retries = getattr(request, "retries", None)
    return StateRecord(
        id=task_id,
        state=state,
        status=status,
        name=getattr(request, "task", None),
        previous=None
        if request is None
        else previous(
            started=started is not None and status != STARTED,
            retried=bool(retries),
            continued=bool(getattr(request, envelope.CONTINUATIONS, None)),
        ),
        created=envelope.created_at(getattr(request, envelope.CREATED, None), place),
        due=due,
        started=started,
        finished=now if state in TERMINAL else None,
        attempts=retries + 1 if isinstance(retries, int) else None,
        worker=getattr(request, "hostname", None),
        queue=delivery.get("routing_key"),
        topic=place.get("topic"),
        partition=place.get("partition"),
        offset=place.get("offset"),
        ordering_key=getattr(request, envelope.ORDERING_KEY, None),
        deduplication_id=getattr(request, envelope.DEDUPLICATION_ID, None),
        result=result,
        exception=exception,
        traceback=None if traceback is None else str(traceback),
        children=children or None,
        parent=getattr(request, "parent_id", None),
        root=getattr(request, "root_id", None),
        group=getattr(request, "group", None),
        retries=retries,
        args=arguments_as_json(getattr(request, "args", None)) if extended else None,
        kwargs=arguments_as_json(getattr(request, "kwargs", None)) if extended else None,
    ).sound()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def children_of(called: Callable[[Any], Any], request: Any) -> Any:
    """The tasks that a task has called; None if they cannot be stored. ``called``: Celery's function that lists them."""
    try:
        return plain(called(request))
    except Exception as error:
        logger.warning("the children of task %s are not told: %r", getattr(request, "id", None), error)
        return None


def as_another_told(found: StateRecord, told: StateRecord) -> StateRecord:
    """A state that another process than the task's worker sets, such as ABORTED, with the known facts of the task."""
    if found.state in TERMINAL:
        return told
    return replace(found, state=told.state, status=told.status, previous=found.state, result=told.result)


def request_of(record: StateRecord) -> Context:
    """Celery's request of a task, as far as its state record has it."""
    return Context(
        task=record.name,
        hostname=record.worker,
        delivery_info={"routing_key": record.queue},
        parent_id=record.parent,
        root_id=record.root,
        group=record.group,
        retries=record.retries or 0,
        **{
            envelope.RECORD_HEADER: {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "timestamp": record.created,
            }
        },
    )


def note_of(record: StateRecord, now: float) -> Note | None:
    """The note of a failed attempt; None for any other state. ``now``: epoch seconds."""
    raised = record.exception
    if raised is None or record.state not in (State.FAILED, State.DELAYED):
        return None
    message = raised.message
    if isinstance(message, (list, tuple)) and len(message) == 1:
        message = message[0]
    error = TaskError(
        now,
        raised.type,
        str(message),
        worker=record.worker,
        attempt=record.attempts,
        traceback=record.traceback,
    )
    return Note(record.id, error=error)


def due_of(raised: Any, now: float) -> float | None:
    """The time at which a task that raised Celery's ``Retry`` goes on, epoch seconds; None for other exceptions."""
    when: Any = getattr(raised, "when", None)
    try:
        return when.timestamp() if isinstance(when, datetime) else now + when
    except (TypeError, ValueError, OverflowError):
        return None


def meta_of(record: StateRecord, result: Any) -> dict[str, Any]:
    """Celery's meta-data of a state record; ``result`` is deserialized already."""
    meta: dict[str, Any] = {
        "task_id": record.id,
        "status": record.status,
        "result": result,
        "traceback": record.traceback,
        "children": record.children or [],
        "date_done": None
        if record.finished is None
        else datetime.fromtimestamp(record.finished, timezone.utc).isoformat(),
    }
    for name, value in (
        ("group_id", record.group),
        ("parent_id", record.parent),
        ("name", record.name),
        ("args", arguments_of_json(record.args)),
        ("kwargs", arguments_of_json(record.kwargs)),
        ("worker", record.worker),
        ("retries", record.retries),
        ("queue", record.queue),
    ):
        if value is not None:
            meta[name] = value
    return meta
