"""Time in tests: what would wait begins at once, and its wait is noted in a file, which worker processes share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from celery import Celery

from kafka_exec.app.durable.run import DurableRun
from kafka_exec.core.control.delay import time_of
from kafka_exec.core.durable.history import SLEEP
from kafka_exec.kafka.publish import clock


class Waited(NamedTuple):
    """A wait that did not take place.

    Attributes:
        task: the name of the task that would have waited.
        id: its id.
        seconds: how long it would have waited.
        kind: ``"countdown"`` or ``"eta"``, as it was sent; ``"retry"``; or ``"sleep"`` of a durable task.
    """

    task: str
    id: str
    seconds: float
    kind: str


class KafkaTime:
    """The waits of a test. ``file``: has one line for each."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def waits(self) -> list[Waited]:
        """All waits so far, in the order in which they began."""
        if not self.file.exists():
            return []
        return [Waited(*json.loads(line)) for line in self.file.read_text(encoding="utf-8").splitlines()]

    def of(self, task: Any) -> list[float]:
        """The seconds that a task would have waited, wait by wait. ``task``: the task, its name, a result, or an id."""
        wanted = {getattr(task, "id", None), getattr(task, "name", None), task if isinstance(task, str) else None}
        return [each.seconds for each in self.waits if {each.task, each.id} & (wanted - {None})]


@contextmanager
def at_once(file: Path) -> Iterator[KafkaTime]:
    """Within it this process sends all tasks to begin at once, and durable tasks do not sleep."""
    send, suspend = Celery.send_task, DurableRun._suspend

    def send_at_once(
        app: Celery,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: Any = None,
        eta: Any = None,
        **more: Any,
    ) -> Any:
        if countdown or eta:
            kind = "retry" if more.get("retries") else "countdown" if countdown else "eta"
            _note(file, Waited(name, str(more.get("task_id")), countdown or _seconds_to(eta), kind))
        return send(app, name, args, kwargs, **more)

    def suspend_at_once(
        run: DurableRun, call: tuple[str, str], correlation_id: str, expected: Any, timeout: Any, watched: Any
    ) -> Any:
        if call[0] == SLEEP and timeout:
            _note(file, Waited(run._task.name, run.task_id, timeout, "sleep"))
            timeout = 0.0
        return suspend(run, call, correlation_id, expected, timeout, watched)

    with patch.object(Celery, "send_task", send_at_once), patch.object(DurableRun, "_suspend", suspend_at_once):
        yield KafkaTime(file)


def _seconds_to(eta: Any) -> float:
    due = time_of(eta.isoformat() if isinstance(eta, datetime) else eta)
    return 0.0 if due is None else due - clock.now()


def _note(file: Path, waited: Waited) -> None:
    # One write, so that lines of several processes never mix.
    opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(opened, f"{json.dumps(waited)}\n".encode())
    finally:
        os.close(opened)
