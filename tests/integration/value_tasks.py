"""Tasks that say what came with their message."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.exceptions import Reject


def add_tasks(app: Celery) -> None:
    @app.task(shared=False, name="typed", bind=True)
    def typed(self: Any, *names: str, failures: int = 0, dies: bool = False) -> dict[str, list[str]]:
        """The type and the text of each of these of its request's attributes, after so many retries."""
        if self.request.retries < failures:
            raise self.retry(countdown=0, max_retries=None)
        if dies and _is_first(self):
            raise Reject("once", requeue=False)
        found = {name: getattr(self.request, name, None) for name in names}
        return {name: [type(value).__name__, str(value)] for name, value in found.items()}


def _is_first(task: Any) -> bool:
    seen = vars(task).setdefault("seen", set())
    is_first = task.request.id not in seen
    seen.add(task.request.id)
    return is_first
