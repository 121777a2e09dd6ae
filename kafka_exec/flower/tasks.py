"""Flower's page of a task of which no event has come since Flower began: the task's state record, as a task of events."""

from __future__ import annotations

from typing import Any

from celery.events.state import Task, Worker

from kafka_exec.backend import KafkaBackend
from kafka_exec.core.results.state_record import ABSENT, Encoded, StateRecord
from kafka_exec.settings.appconf import is_our_url

#: The times of a task's end, by its status.
_ENDS = {"SUCCESS": "succeeded", "FAILURE": "failed", "REVOKED": "revoked", "RETRY": "retried"}


def past_task(events: Any, task_id: str) -> Task | None:
    """The task of an id, by its state record; None if there is none, or the result back end is another one.

    Args:
        events: Flower's events, which have its app and its tasks.
    """
    backend = _backend(events.capp)
    found = None if backend is None else backend.history(task_id)
    return None if found is None else as_task(found, events.state)


def _backend(app: Any) -> KafkaBackend | None:
    chosen = app.conf.result_backend
    return app.backend if isinstance(chosen, str) and is_our_url(chosen) else None


def as_task(record: StateRecord, state: Any) -> Task:
    """A state record as a task of events. ``state``: the tasks and workers of which events have told."""
    facts: dict[str, Any] = {
        "name": record.name,
        "state": record.status,
        "sent": record.created,
        "started": record.started,
        "timestamp": record.finished or record.started or record.created,
        # Flower would show None as the arguments.
        "args": "" if record.args is None else repr(record.args),
        "kwargs": "" if record.kwargs is None else repr(record.kwargs),
        "retries": record.retries,
        "routing_key": record.queue,
        "root_id": record.root,
        "parent_id": record.parent,
        "traceback": record.traceback,
        "result": _result(record),
    }
    if record.exception is not None:
        facts["exception"] = f"{record.exception.type}({record.exception.message!r})"
    if record.worker is not None:
        facts["worker"] = state.workers.get(record.worker) or Worker(record.worker)
    if record.finished is not None and record.status in _ENDS:
        facts[_ENDS[record.status]] = record.finished
        facts["runtime"] = None if record.started is None else record.finished - record.started
    return Task(record.id, state, **{name: value for name, value in facts.items() if value is not None})


def _result(record: StateRecord) -> str | None:
    if record.result is ABSENT or record.finished is None:
        return None  # what is stored of a task that runs says where it runs
    return f"{len(record.result.data)} bytes" if isinstance(record.result, Encoded) else repr(record.result)
