"""Tasks that raise, return and tell what is hard to store."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from celery import Celery, Task


class TakesTwo(Exception):
    """Is made of more than it keeps."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Unshowable(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


#: By name, what is raised.
ODD: dict[str, Callable[[], BaseException]] = {
    "uuid": lambda: KeyError(uuid.UUID(int=7)),
    "time": lambda: LookupError("nothing at", datetime(2026, 1, 2, tzinfo=timezone.utc)),
    "bytes": lambda: UnicodeDecodeError("utf-8", b"\xff\xfe", 0, 1, "invalid start byte"),
    "nan": lambda: KeyError(float("nan")),
    "object": lambda: ValueError(object(), {1, 2}),
    "surrogate": lambda: ValueError("file \udcff name"),
    "large": lambda: ValueError("x" * 2_000_000),
    "two": lambda: TakesTwo("two arguments", 42),
    "json": lambda: json.JSONDecodeError("no JSON", "{", 1),
    "unshowable": lambda: Unshowable("x"),
}


def add_storing_tasks(app: Celery, note: Callable[[str, str], None]) -> None:
    """Gives an app these tasks."""

    def task(function: Callable[..., Any], **options: Any) -> Any:
        return app.task(shared=False, name=function.__name__, bind=True, **options)(function)

    @task
    def raise_odd(self: Task, name: str) -> None:
        raise ODD[name]()

    @task
    def retry_odd(self: Task, name: str) -> int:
        """Succeeds in its second run."""
        if self.request.retries:
            return 5
        raise self.retry(exc=ODD[name](), countdown=0, max_retries=1)

    @task
    def tell_much(self: Task, size: int) -> None:
        self.update_state(state="PROGRESS", meta="x" * size)

    @task
    def leave(self: Task, status: int) -> None:
        note("begin", self.request.id)
        sys.exit(status)

    @task
    def kinds(self: Task, *args: Any) -> list[str]:
        return [type(arg).__name__ for arg in args]

    @task
    def same(self: Task, *args: Any) -> Any:
        """Returns what it got."""
        return args

    @task
    def note_kinds(self: Task, *args: Any, key: Any) -> None:
        note("kinds", f"{type(key).__name__}-{key!r}".replace(" ", ""))

    def overrun(self: Task) -> None:
        """Is killed when its time is over, and not acknowledged."""
        note("begin", self.request.id)
        time.sleep(60)

    task(overrun, time_limit=1, acks_on_failure_or_timeout=False)
