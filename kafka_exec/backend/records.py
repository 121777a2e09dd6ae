"""Between Celery's result meta-data and the state record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from kafka_exec.core import envelope
from kafka_exec.core.lifecycle import TERMINAL, of_celery
from kafka_exec.core.state_record import Raised, StateRecord

#: Where the group of a saved ``GroupResult`` is written: under an id that no task has.
GROUP_PREFIX = "group:"


def record_of(
    task_id: str,
    status: str,
    result: Any,
    *,
    now: float,
    started: float | None,
    traceback: Any,
    exception: Mapping[str, Any] | None,
    children: Any,
    request: Any,
    extended: bool,
) -> StateRecord:
    """The record of a task's new state. ``result`` is serialized already; times are epoch seconds."""
    state = of_celery(status)
    delivery = getattr(request, "delivery_info", None) or {}
    place = getattr(request, envelope.RECORD_HEADER, None) or {}
    retries = getattr(request, "retries", None)
    return StateRecord(
        id=task_id,
        state=state,
        status=status,
        name=getattr(request, "task", None),
        created=place.get("timestamp"),
        started=started,
        finished=now if state in TERMINAL else None,
        attempts=None if retries is None else retries + 1,
        worker=getattr(request, "hostname", None),
        queue=delivery.get("routing_key"),
        partition=place.get("partition"),
        offset=place.get("offset"),
        result=result,
        exception=None
        if exception is None
        else Raised(str(exception["exc_type"]), exception.get("exc_message"), exception.get("exc_module")),
        traceback=None if traceback is None else str(traceback),
        children=children or None,
        parent=getattr(request, "parent_id", None),
        root=getattr(request, "root_id", None),
        group=getattr(request, "group", None),
        retries=retries,
        args=_plain(request, "args") if extended else None,
        kwargs=_plain(request, "kwargs") if extended else None,
    )


def _plain(request: Any, name: str) -> Any:
    """Arguments as JSON has them; of others, their text."""
    return _json(getattr(request, name, None))


def _json(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    return repr(value)


def meta_of(record: StateRecord, result: Any) -> dict[str, Any]:
    """Celery's meta-data of a record, with the result as it was before it was serialized."""
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
        *(("group_id", record.group), ("parent_id", record.parent), ("name", record.name)),
        *(("args", record.args), ("kwargs", record.kwargs), ("worker", record.worker)),
        *(("retries", record.retries), ("queue", record.queue)),
    ):
        if value is not None:
            meta[name] = value
    return meta
