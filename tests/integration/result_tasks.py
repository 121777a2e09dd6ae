"""The tasks of the result and chord tests. Like those of :mod:`tests.integration.app`, they write down what they do."""

from __future__ import annotations

import ast
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import Celery, Task, group, signals
from kombu import serialization
from kombu.utils.encoding import bytes_to_str

from kafka_exec import remark
from tests.integration.retry_tasks import add_retrying_tasks

#: A serializer whose text is no JSON.
LITERAL = "literal"
serialization.register(
    LITERAL, repr, lambda data: ast.literal_eval(bytes_to_str(data)), "text/x-python-literal", "utf-8"
)

#: What JSON alone cannot say.
RICH = {
    "at": datetime(2031, 2, 3, 4, 5, 6, 700, timezone.utc),
    "id": UUID("12345678-1234-5678-1234-567812345678"),
    "price": Decimal("12.50"),
}

#: What a task waits at most, seconds: a failing test must not leave workers behind.
_PATIENCE = 120.0


class Refused(Exception):
    """An exception of the application's own."""


def wait_for(file: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not Path(file).exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def kill_worker_once(marker: str) -> None:
    """SIGKILL for the worker's whole process group, unless the file was there."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.killpg(0, signal.SIGKILL)


@signals.task_success.connect
def _kill_after_the_state(sender: Task, result: Any, **kwargs: Any) -> None:
    """Called by Celery when the state is stored and the message is not acknowledged yet."""
    if sender.name == "killed_after_its_state":
        kill_worker_once(result)


def add_tasks(app: Celery, note: Callable[[str, str], None]) -> None:
    """Gives an app these tasks."""

    def task(function: Callable[..., Any]) -> Any:
        return app.task(shared=False, name=function.__name__, bind=True)(function)

    @task
    def echo(self: Task, value: Any) -> Any:
        return value

    @task
    def rich(self: Task) -> Any:
        return RICH

    @task
    def large(self: Task, size: int) -> str:
        return "x" * size

    @task
    def refuse(self: Task, *reasons: Any) -> None:
        raise Refused(*reasons)

    @task
    def progress(self: Task, gate: str) -> str:
        """Tells how far it is, and goes on when a file exists."""
        for percent in (10, 60):
            self.update_state(state="PROGRESS", meta={"percent": percent})
        wait_for(gate)
        return "complete"

    @task
    def flaky(self: Task, failures: int, countdown: float = 0) -> int:
        """Succeeds after so many failures; the number of its retries."""
        if self.request.retries < failures:
            raise self.retry(exc=Refused("not yet"), countdown=countdown, max_retries=failures)
        return int(self.request.retries)

    @task
    def remarking(self: Task, text: str) -> None:
        remark(text)

    @task
    def spawn(self: Task) -> str:
        """Has a child, and a group of two."""
        echo.delay("child")
        group(echo.s(1), echo.s(2)).delay()
        return "parent"

    @task
    def killed_before_its_state(self: Task, marker: str) -> str:
        note("end", self.request.id)
        kill_worker_once(marker)
        return "done"

    @task
    def killed_after_its_state(self: Task, marker: str) -> str:
        note("end", self.request.id)
        return marker

    @task
    def late(self: Task, slow: str, gate: str, finish: str) -> str:
        """On the worker named ``slow`` it tells of its progress when a file exists, and waits for another."""
        note("begin", self.request.id)
        worker = os.environ["WORKER"]
        if worker == slow and gate:
            wait_for(gate)
            self.update_state(state="STARTED", meta={"worker": worker})
            note("late", self.request.id)
        if worker == slow:
            wait_for(finish)
        note("end", self.request.id)
        return worker

    @task
    def part(self: Task, number: int, gate: str = "") -> int:
        """A part of a chord's header."""
        if gate:
            wait_for(gate)
        return number

    @task
    def close(self: Task, numbers: Any, key: str = "") -> Any:
        """A chord's body: returns what it got."""
        note("end", key or self.request.id)
        return numbers

    @task
    def double(self: Task, numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    @task
    def on_error(self: Task, failed: str, key: str = "") -> None:
        note("error", key or failed)

    add_retrying_tasks(app, note)
