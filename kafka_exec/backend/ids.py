"""Ids of tasks and groups as texts: a UUID object is turned into its text wherever Celery hands an id to the back end."""

from __future__ import annotations

from typing import Any

from celery.backends.asynchronous import AsyncBackendMixin

from kafka_exec.core.record.fields import id_text


class TextIds(AsyncBackendMixin):  # type: ignore[misc]
    """A mix-in that turns ids into texts before Celery's own methods see them."""

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
        """Makes a result object's id a text, so that the id of its state record finds it."""
        result.id = id_text(result.id)
        return super().add_pending_result(result, *args, **kwargs)
