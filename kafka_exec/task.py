"""What a running task can say of itself."""

from __future__ import annotations

from typing import Any

from celery import current_app, current_task

from kafka_exec.backend import KafkaBackend
from kafka_exec.core.state_record import Remark
from kafka_exec.errors import ConfigurationError


def remark(text: str, *, task_id: str | None = None, by: str | None = None, app: Any = None) -> Remark:
    """Notes something of a task, durably; ``celery kafka show`` tells it. It does not change the task's state.

    Args:
        task_id: of which task; within a task that one by default.
        by: who says it; within a task its worker by default.
        app: the task's or the current application by default.

    Raises:
        ConfigurationError: the application has no kafka-exec result back end, or nobody said which task.
        NotConfirmed, MessageTooLarge, ConnectionFailed: it is not noted.
    """
    request = current_task.request if current_task else None
    backend = (app or (current_task.app if current_task else current_app)).backend
    if not isinstance(backend, KafkaBackend):
        raise ConfigurationError("a remark needs an application with a kafka-exec:// result backend")
    task_id = task_id or (request and request.id)
    if not task_id:
        raise ConfigurationError("a remark outside of a task needs a task_id")
    return backend.remark(task_id, text, by or (request and request.hostname) or "")
