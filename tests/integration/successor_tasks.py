"""Tasks whose worker is killed when they have sent what follows from them, and before their own end is told."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery, Task, current_task, signals

#: What a task waits at most for the kill, seconds: a failing test must not leave workers behind.
_PATIENCE = 120.0

#: By task id, the number of messages that its run in this process has sent.
_sent: Counter[str] = Counter()


def mark_of(name: str) -> Path:
    """The file that exists as soon as the first run of a task has sent its messages."""
    return Path(f"{os.environ['EFFECTS']}-sent-{name}")


@signals.after_task_publish.connect
def _stay_before_the_end(**kwargs: Any) -> None:
    """Stops the first run of a task that is to be killed when it has sent so many messages, or any run for a moment."""
    request = current_task.request if current_task else None
    told = (request and request.kwargs) or {}
    time.sleep(told.get("pause", 0.0))
    if not (most := told.get("killed_after")):
        return
    _sent[request.id] += 1
    mark = mark_of(request.kwargs["name"])
    if _sent[request.id] == most and not mark.exists():
        mark.touch()
        time.sleep(_PATIENCE)


def add_successor_tasks(app: Celery, note: Callable[[str, str], None]) -> None:
    """Gives an app these tasks.

    ``killed_after``: the first run is stopped after so many messages; ``pause``: any run stops for so long after each.
    """

    def stored(self: Task, result: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called by Celery when the task's success is stored, and not acknowledged yet."""
        note("stored", kwargs["name"])

    def task(function: Callable[..., Any]) -> Any:
        options = {"bind": True, "max_retries": None, "on_success": stored}
        return app.task(shared=False, name=function.__name__, **options)(function)

    @task
    def step(self: Task, *args: Any, name: str, killed_after: int = 0, pause: float = 0.0, gate: str = "") -> None:
        """Runs until a file exists, if it is told of one."""
        note("begin", name)
        deadline = time.monotonic() + _PATIENCE
        while gate and not Path(gate).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        note("end", name)

    @task
    def failing(self: Task, *args: Any, name: str, killed_after: int = 0) -> None:
        note("begin", name)
        raise ValueError(name)

    @task
    def replaced(self: Task, *args: Any, name: str, by: str, killed_after: int = 0) -> None:
        note("begin", name)
        raise self.replace(step.si(name=by))

    @task
    def elsewhere(self: Task, *args: Any, name: str, killed_after: int = 0) -> None:
        """Is retried in another queue, with a name of its own."""
        note("begin", name)
        if not self.request.retries:
            raise self.retry(kwargs={"name": f"{name}-retry"}, countdown=0, queue="other")
        note("end", name)
