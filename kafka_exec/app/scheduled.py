"""The state SCHEDULED, which the publisher writes of a task that is to begin later, and the API of each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.app.task import Context

from kafka_exec.backend import KafkaBackend
from kafka_exec.core.results.lifecycle import State
from kafka_exec.kafka.client.failures import within


def tell_scheduled(app: Any, name: str, due: float | None, options: Mapping[str, Any]) -> None:
    """Writes the state SCHEDULED of a task that is sent with these options of ``send_task``.

    It writes nothing for a retry, whose worker writes the state, and for a task without a result.

    Args:
        due: the time at which it begins, epoch seconds; None: as soon as it can.

    Raises:
        ConnectionFailed, Forbidden: the topic of the states is not found.
    """
    task = options.get("task_type") or app._tasks.get(name)
    is_ignored = options.get("ignore_result")
    if is_ignored is None:
        is_ignored = app.conf.task_ignore_result if task is None else task.ignore_result
    if is_ignored or options.get("retries") or not isinstance(app.backend, KafkaBackend):
        return
    told = {"task": name, "id": options["task_id"], **(options.get("headers") or {})}
    told |= {field: options.get(field) for field in ("parent_id", "root_id")}
    with within(app.backend.space.settings.publish_timeout):
        app.backend.tell_waiting(Context(told), State.SCHEDULED, due=due)
