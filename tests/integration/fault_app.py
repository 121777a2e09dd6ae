"""The Celery app of the fault tests: every run of a task leaves lines in a file that nothing under test ever reads.

Workers import it with BROKER_URL, EFFECTS (that file) and CELERY_CONF (a JSON object) in the environment.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery

import kafka_exec  # noqa: F401  registers the scheme


def note(task_id: str, what: str) -> None:
    """Appends a line in one write, so that lines of several processes never mix."""
    line = f"{time.time():.3f} {task_id} {what} {os.getpid()}\n".encode()
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def make_app(url: str, **conf: Any) -> Celery:
    """An app with the tasks of these tests."""
    app = Celery("faults", broker=url, set_as_current=False)
    app.conf.update(task_ignore_result=True, broker_connection_timeout=3, **conf)

    @app.task(name="work", bind=True, shared=False)
    def work(self: Any, seconds: float = 0.0, text: str = "") -> None:
        note(self.request.id, "begin")
        time.sleep(seconds)
        note(self.request.id, "end")

    @app.task(name="echo", shared=False)
    def echo(value: Any) -> Any:
        return value

    return app


if "BROKER_URL" in os.environ:
    app = make_app(os.environ["BROKER_URL"], **json.loads(os.environ.get("CELERY_CONF", "{}")))


def publish(count: int) -> None:
    """For the children of multiprocessing, which want a function of a module."""
    for _ in range(count):
        app.tasks["work"].delay()
