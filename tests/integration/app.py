"""The Celery app of the worker tests: a task's every run leaves a line in a file that nothing under test reads.

Workers import it with BROKER_URL in the environment; RESULT_BACKEND, EFFECTS (that file) and CELERY_CONF (a JSON object)
are optional.
"""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject
from celery.schedules import BaseSchedule, schedstate
from celery.signals import task_postrun, task_prerun
from kombu.common import Broadcast

import kafka_exec  # noqa: F401 - registers the scheme
from kafka_exec.beat import claim_acquired, claim_released
from kafka_exec.errors import RunStopped
from kafka_exec.signals import transition
from tests.integration import memory_command, value_tasks  # noqa: F401 - registers a command of workers
from tests.integration.durable_tasks import add_durable_tasks, add_jobs
from tests.integration.result_tasks import add_tasks
from tests.integration.storing_tasks import add_storing_tasks
from tests.integration.successor_tasks import add_successor_tasks

#: The queue that reaches every worker which consumes it.
BROADCAST = "everybody"

#: What a task waits at most for its gate, seconds: a failing test must not leave workers behind.
GATE_TIMEOUT = 120.0


def note(what: str, task_id: str) -> None:
    """Appends a line in one write, so that lines of several processes never mix."""
    line = f"{what} {task_id} {os.environ.get('WORKER', '-')} {os.getpid()} {time.clock_gettime(time.CLOCK_REALTIME):.4f}\n"
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def run_until(gate: str, task_id: str) -> None:
    """The run of a task, which lasts until a file exists."""
    note("begin", task_id)
    deadline = time.monotonic() + GATE_TIMEOUT
    while not Path(gate).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    note("end", task_id)


def make_app(url: str, backend: str | None = None, **conf: Any) -> Celery:
    """An app with the tasks of these tests."""
    app = Celery("worker-tests", broker=url, backend=backend, set_as_current=False)
    app.conf.update(broker_connection_retry_on_startup=True, task_ignore_result=backend is None, **conf)
    if "task_queues" not in conf and conf.get("task_create_missing_queues", True):
        app.conf.task_routes = {"reach": {"queue": BROADCAST, "exchange": BROADCAST}}

    @app.task(shared=False, name="work", bind=True)
    def work(self: Any, seconds: float = 0.0) -> None:
        note("begin", self.request.id)
        if seconds:
            time.sleep(seconds)
        note("end", self.request.id)

    @app.task(shared=False, name="hold", bind=True)
    def hold(self: Any, gate: str, retries: int = 0) -> None:
        """Runs until a file exists; then it is retried so many times."""
        run_until(gate, self.request.id)
        if self.request.retries < retries:
            raise self.retry(countdown=0, max_retries=None)

    @app.task(shared=False, name="tick", bind=True)
    def tick(self: Any, seconds: float = GATE_TIMEOUT, *, stubborn: bool = False) -> int:
        """Leaves a line again and again; returns its fencing token. ``stubborn``: it does not stop when it is told to."""
        note("begin", self.request.id)
        note("slot", str(self.request.slot))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                note("tick", self.request.id)
                time.sleep(0.02)
            except RunStopped:
                if not stubborn:
                    raise
        note("end", self.request.id)
        fence: int = self.request.fence
        return fence

    @app.task(shared=False, name="crash", bind=True)
    def crash(self: Any) -> None:
        """Kills the process that runs it."""
        note("begin", self.request.id)
        os.kill(os.getpid(), signal.SIGKILL)

    @app.task(shared=False, name="parent", bind=True)
    def parent(self: Any, child: str) -> None:
        """Publishes a task from within a task."""
        work.apply_async(task_id=child)
        note("end", self.request.id)

    @app.task(shared=False, name="reach", bind=True, ignore_result=True)
    def reach(self: Any, token: str) -> None:
        note("end", token)

    @app.task(shared=False, name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(shared=False, name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(shared=False, name="fail")
    def fail(text: str) -> None:
        raise ValueError(text)

    @app.task(shared=False, name="ignored")
    def ignored() -> None:
        raise Ignore

    @app.task(shared=False, name="picky", bind=True)
    def picky(self: Any, word: str) -> None:
        """Takes one word; with others its message is a dead letter."""
        if word != "please":
            raise Reject(word, requeue=False)
        note("end", self.request.id)

    @app.task(shared=False, name="stumble", bind=True)
    def stumble(
        self: Any, failures: int = 0, countdown: float = 0.0, seconds: float = 0.0, *, fails: bool = False
    ) -> None:
        """Is retried so many times; then it succeeds or fails."""
        note("begin", self.request.id)
        if seconds:
            time.sleep(seconds)
        if self.request.retries < failures:
            note("retry", self.request.id)
            raise self.retry(countdown=countdown, max_retries=None)
        note("end", self.request.id)
        if fails:
            raise ValueError("no")

    @app.task(shared=False, name="torn", bind=True, max_retries=None)
    def torn(self: Any, sent: str, of: int, retries: bool) -> None:
        """Sends itself anew, and is killed with all others like it before that is told; a repetition may do so again."""
        note("begin", self.request.id)
        mark = Path(sent) / self.request.id
        if self.request.retries:
            note("retry-end", self.request.id)
        elif not mark.exists():
            time.sleep(0.5)  # so that its begin has been told
            self.retry(countdown=0, throw=False)
            mark.touch()
            while len(list(mark.parent.iterdir())) < of:
                time.sleep(0.02)
            os.killpg(os.getpgrp(), signal.SIGKILL)
        elif retries:
            raise self.retry(countdown=0)
        note("end", self.request.id)

    @app.task(shared=False, name="fenced", bind=True)
    def fenced(self: Any) -> int | None:
        fence: int | None = self.request.fence
        return fence

    @app.task(shared=False, name="slotted", bind=True)
    def slotted(self: Any) -> None:
        """Says for which time it was due."""
        note("slot", str(self.request.slot))

    @app.task(shared=False, name="keyed", bind=True, ordering_key=_customer_of)
    def keyed(self: Any, customer: str) -> None:
        note("end", self.request.id)

    @app.task(shared=False, name="break_lane", bind=True, ordering_stops_on_failure=True)
    def break_lane(self: Any) -> None:
        note("begin", self.request.id)
        raise ValueError("broken")

    add_tasks(app, note)
    add_storing_tasks(app, note)
    add_successor_tasks(app, note)
    add_durable_tasks(app, note)
    add_jobs(app, note)
    value_tasks.add_tasks(app)
    return app


class EverySecond(BaseSchedule):  # type: ignore[misc]
    """A schedule that has only what Celery's beat asks for."""

    def is_due(self, last_run_at: datetime) -> schedstate:
        left = 1.0 - (self.now() - last_run_at).total_seconds()
        return schedstate(is_due=left <= 0, next=left if left > 0 else 1.0)


def _customer_of(customer: str) -> str:
    return customer


if "BROKER_URL" in os.environ:
    app = make_app(
        os.environ["BROKER_URL"],
        os.environ.get("RESULT_BACKEND"),
        **json.loads(os.environ.get("CELERY_CONF", "{}")),
    )
    for number in range(int(os.environ.get("VERSION", "0"))):
        # What each version of an application has in addition to the one before.
        app.task(app.tasks["work"].run.__func__, name=f"new{number}", bind=True, shared=False)
    if version := os.environ.get("WORK_VERSION"):
        app.tasks["work"].version, *app.tasks["work"].runs_versions = map(int, version.split())
    claim_acquired.connect(lambda entry, **_: note("acquired", entry), weak=False)
    claim_released.connect(lambda entry, **_: note("released", entry), weak=False)
    for name in os.environ.get("WITHOUT_TASKS", "").split():
        app.tasks.unregister(name)
    if os.environ.get("TRANSITIONS"):
        transition.connect(
            lambda task_id, previous, state, **_: note(f"{previous}->{state}", task_id), weak=False, sender="wait"
        )
        task_prerun.connect(lambda task_id, **_: note("prerun", task_id), weak=False)
        task_postrun.connect(lambda task_id, **_: note("postrun", task_id), weak=False)
    if os.environ.get("OWN_SCHEDULE"):
        app.conf.beat_schedule = {**app.conf.beat_schedule, "own": {"task": "work", "schedule": EverySecond()}}
    if os.environ.get("WITH_BROADCAST"):
        app.conf.task_queues = (*app.amqp.queues.values(), Broadcast(BROADCAST))


def publish(count: int) -> None:
    """For the children of multiprocessing, which want a function of a module."""
    for _ in range(count):
        app.tasks["work"].delay()
