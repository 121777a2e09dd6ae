"""The options with which a task is sent: its ordering key, its deduplication id, its time. They become headers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from celery import current_task
from kombu.utils.functional import maybe_list

from kafka_exec.backend.control.suspensions import RUN
from kafka_exec.core.control.delay import level_for, time_of
from kafka_exec.core.message.envelope import (
    CONTINUATIONS,
    CONTINUED,
    CREATED,
    DEDUPLICATION_ID,
    LOG_OFFSET,
    ORDERING_KEY,
    RECORD_HEADER,
    REPEATED,
    RETRY_OF,
    STOPS_ON_FAILURE,
    place_name,
)
from kafka_exec.core.message.taskmessage import check_types
from kafka_exec.core.record.fields import LONGEST_ID, an_id, id_text
from kafka_exec.core.worker.versions import TASK_VERSION
from kafka_exec.errors import ConfigurationError, Undecodable
from kafka_exec.kafka.publish import clock

#: The namespace of task ids that are made of deduplication ids (RFC 9562, version 5).
_NAMESPACE = uuid.UUID("6b0f7c3e-5d0c-5a3b-9a35-1f0a8e3a7c55")

#: The options of ``send_task`` that are ids.
_IDS = frozenset({"task_id", "root_id", "parent_id", "group_id"})


def addressed(
    name: str, task_type: Any, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, options: dict[str, Any]
) -> dict[str, Any]:
    """The options of Celery's ``send_task`` with our options as headers, and with the task id that follows from them.

    ``ordering_key`` and ``ordering_stops_on_failure`` may also be attributes of the task. If the key is callable, it is
    called with the task's arguments.

    Raises:
        ConfigurationError: a key or an id is not text, empty, or too long; a version is neither a number nor text; a header
            that Celery or kafka_exec reads has a wrong type; or a deduplicated task has an id of its own.
    """
    options = {name: id_text(value) if name in _IDS else value for name, value in options.items()}
    headers = dict(options.get("headers") or {})
    key = options.pop(ORDERING_KEY, None)
    if key is None and ORDERING_KEY not in headers:
        key = getattr(task_type and type(task_type), ORDERING_KEY, None)
        if callable(key):
            key = key(*(args or ()), **(kwargs or {}))
    stops = options.pop(STOPS_ON_FAILURE, getattr(task_type, STOPS_ON_FAILURE, None))
    unique = options.pop(DEDUPLICATION_ID, None)
    if key is not None:
        headers[ORDERING_KEY] = an_id(key, f"{name}: an ordering key")
    if stops and ORDERING_KEY in headers:
        headers[STOPS_ON_FAILURE] = True
    if unique is not None:
        task_id = str(uuid.uuid5(_NAMESPACE, an_id(unique, f"{name}: a deduplication id")))
        if options.get("task_id") not in (None, task_id):
            raise ConfigurationError(f"{name}: a task with a deduplication_id gets its task_id from it; leave one out")
        options["task_id"] = task_id
        headers[DEDUPLICATION_ID] = unique
    try:
        check_types(headers)
    except Undecodable as error:
        raise ConfigurationError(f"{name} cannot be sent, nobody could read it: {error}") from None
    version = getattr(task_type, "version", None)
    if version is not None:
        headers.setdefault(TASK_VERSION, _version(name, version))
    headers.pop(RETRY_OF, None)
    headers.pop(REPEATED, None)
    request = current_task.request if current_task else None
    is_itself = request is not None and options.get("task_id") == request.id
    if request is not None and not (
        is_itself and name == getattr(request, "task", None)
    ):  # another task has a history of its own
        headers.pop(CONTINUED, None)
        headers.pop(CONTINUATIONS, None)
    if is_itself and (options.get("retries") or headers.get(CONTINUATIONS)):
        _check_retry(name, request, options.get("queue"), headers)
        if place := getattr(request, RECORD_HEADER, None):
            headers[RETRY_OF] = place_name(place["topic"], place["partition"], place["offset"])
        if headers.get(CONTINUATIONS) == getattr(request, CONTINUATIONS, None):
            _hand_history_on(request, headers)
    # Without an id it is a task of its own, whichever run sends it.
    if options.get("task_id") and (since := getattr(request, REPEATED, None)) is not None:
        headers[REPEATED] = since
    headers.setdefault(CREATED, round(time.time(), 3))
    options["headers"] = headers
    for callbacks in ("link", "link_error"):
        if options.get(callbacks):
            options[callbacks] = [_with_id(each) for each in maybe_list(options[callbacks])]
    return options


def _hand_history_on(request: Any, headers: dict[str, Any]) -> None:
    """Names in the headers of a retry where the history of its durable task is, if this run has added to it."""
    if (run := getattr(request, RUN, None)) is not None and (found := run.header()) is not None:
        headers[CONTINUED] = found


def log_offset() -> float | None:
    """The seconds by which the log's clock is ahead of the monotonic one, if the machine's other clock is wrong."""
    offset = getattr(current_task.request, LOG_OFFSET, None) if current_task else None
    return offset if isinstance(offset, float) else None


def without_countdown(countdown: Any, eta: Any) -> tuple[Any, Any]:
    """The ``countdown`` and ``eta`` of a task to send: Celery would add a countdown to the machine's clock."""
    if not isinstance(countdown, (int, float)) or not countdown:
        return countdown, eta
    return None, datetime.fromtimestamp(clock.now() + countdown, timezone.utc)


def _with_id(callback: Any) -> Any:
    """A callback with an id: each run that sends it, the repeated one too, sends the same task. A canvas stays as it is."""
    if not isinstance(callback, Mapping) or callback.get("subtask_type"):
        return callback
    return {**callback, "options": {"task_id": str(uuid.uuid4()), **(callback.get("options") or {})}}


def due_of(countdown: Any, eta: Any, now: float) -> float | None:
    """The time at which a delayed task begins, epoch seconds; None if it is not delayed, or Celery must refuse the time.

    Args:
        countdown, eta: as in Celery's ``send_task``.
        now: epoch seconds.
    """
    if isinstance(countdown, (int, float)) and countdown:
        due: float | None = now + countdown
    else:
        due = time_of(eta.isoformat() if isinstance(eta, datetime) else eta)
    return due if due is not None and level_for(due - now, 1) is not None else None


def _check_retry(name: str, request: Any, queue: Any, headers: Mapping[str, Any]) -> None:
    """Refuses a retry of a task with a lane in another queue: the lane would wait for it in its own queue for ever."""
    own = (request.delivery_info or {}).get("routing_key")
    if queue and str(queue) != own and not headers.keys().isdisjoint((ORDERING_KEY, DEDUPLICATION_ID)):
        raise ConfigurationError(f"{name}: a task with an ordering key or a deduplication id is retried in its queue")


def _version(name: str, value: Any) -> int | str:
    if type(value) is not int and not (isinstance(value, str) and 0 < len(value) <= LONGEST_ID):
        raise ConfigurationError(f"{name}: a version must be a whole number or a text, not {value!r:.60}")
    found: int | str = value
    return found
