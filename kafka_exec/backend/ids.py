"""Ids as people have them: a UUID object is its text, wherever Celery hands an id to the back end."""

from __future__ import annotations

from typing import Any

from celery.backends.asynchronous import AsyncBackendMixin

from kafka_exec.core.record.fields import id_text


class TextIds(AsyncBackendMixin):  # type: ignore[misc]
    """Stands before Celery's own methods."""

    def get_task_meta(self, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        return super().get_task_meta(id_text(task_id), *args, **kwargs)

    def store_result(self, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        return super().store_result(id_text(task_id), *args, **kwargs)

    def forget(self, task_id: Any) -> Any:
        return super().forget(id_text(task_id))

    def get_group_meta(self, group_id: Any, *args: Any, **kwargs: Any) -> Any:
        return super().get_group_meta(id_text(group_id), *args, **kwargs)

    def save_group(self, group_id: Any, result: Any) -> Any:
        return super().save_group(id_text(group_id), result)

    def delete_group(self, group_id: Any) -> Any:
        return super().delete_group(id_text(group_id))

    def add_pending_result(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        """Somebody waits: the result is found by the id that its record has."""
        result.id = id_text(result.id)
        return super().add_pending_result(result, *args, **kwargs)
