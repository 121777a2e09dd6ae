"""The tasks of the tests of retry policies. Like those of :mod:`tests.integration.app`, they write down what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, Task

from kafka_exec import Phase, Recoverable, RetryPolicy, Unrecoverable

#: Two retries, soon.
SOON = RetryPolicy((Phase(2, 0.2, factor=1.0),))


class Away(Exception):
    """A resource that a task needs is not there."""


class Busy(Recoverable):
    """A resource that a task needs has no time."""


class Wrong(Unrecoverable):
    """An argument of a task is wrong."""


ERRORS = {kind.__name__: kind for kind in (Away, Busy, Wrong)}


def add_retrying_tasks(app: Celery, note: Callable[[str, str], None]) -> None:
    """Gives an app these tasks. Each fails so many times, and then returns the number of its retries."""

    def fail(task: Task, failures: int, error: str) -> int:
        note("begin", task.request.id)
        if task.request.retries < failures:
            raise ERRORS[error](f"attempt {task.request.retries + 1}")
        return int(task.request.retries)

    @app.task(shared=False, name="retrying", bind=True, retrying=SOON)
    def retrying(self: Task, failures: int, error: str = "Away") -> int:
        return fail(self, failures, error)

    @app.task(shared=False, name="retrying_little", bind=True, retrying=RetryPolicy(SOON.phases, on=(OSError,)))
    def retrying_little(self: Task, failures: int, error: str) -> int:
        return fail(self, failures, error)

    @app.task(
        shared=False, name="autoretrying", bind=True, autoretry_for=(Away,), max_retries=1, default_retry_delay=0.2
    )
    def autoretrying(self: Task, failures: int) -> int:
        return fail(self, failures, "Away")

    @app.task(shared=False, name="retrying_itself", bind=True, retrying=SOON)
    def retrying_itself(self: Task, failures: int) -> Any:
        """The first time by itself, then by its policy."""
        if self.request.retries == 0:
            note("begin", self.request.id)
            raise self.retry(exc=Away("attempt 1"), countdown=0.2)
        return fail(self, failures, "Away")
