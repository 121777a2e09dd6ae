"""Durable tasks; each step leaves a line, and may be stopped once so that its worker can be killed within it."""

from __future__ import annotations

import os
import statistics
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore

from kafka_exec import Delay, Done, Error, Job, Stop, Suspend, Wait

#: What a task waits at most for the kill, seconds: a failing test must not leave workers behind.
_PATIENCE = 120.0


def mark_of(name: str) -> Path:
    """The file that exists as soon as a task is where it is to be killed."""
    return Path(f"{os.environ['EFFECTS']}-durable-{name}")


def stay_once(name: str) -> None:
    """Stops the first run that comes here."""
    mark = mark_of(name)
    if not mark.exists():
        mark.touch()
        time.sleep(_PATIENCE)


def add_durable_tasks(app: Celery, note: Callable[[str, str], None]) -> None:
    """Gives an app these tasks."""

    def task(function: Callable[..., Any]) -> Any:
        return app.task(shared=False, name=function.__name__, bind=True, max_retries=None)(function)

    def effect(task_id: str, number: int, size: int = 0) -> dict[str, Any]:
        note(f"step{number}", task_id)
        return {"number": number, "filling": "x" * size}

    @task
    def steps(self: Task, number: int, stops_in: int = -1, stops_after: int = -1) -> list[int]:
        """So many steps. The first run stays within one of them, or after one."""
        found = []
        for each in range(number):

            def act(each: int = each) -> int:
                note(f"step{each}", self.request.id)
                if each == stops_in:
                    stay_once(self.request.id)
                return each * each

            found.append(self.step(act, name="square"))
            if each == stops_after:
                stay_once(self.request.id)
        note("end", self.request.id)
        return found

    @task
    def timed_steps(self: Task, number: int) -> list[float]:
        """The times of a step, and of a confirmed record of the same size, in milliseconds: medians in alternation."""
        taken: list[tuple[float, float]] = []
        for _ in range(number):
            start = time.perf_counter()
            self.step(lambda: None, name="timed")
            middle = time.perf_counter()
            self.backend.steps.append(self.request.id, f"{self.request.id}/none", b'{"schema":1}' + b" " * 150)
            taken.append((middle - start, time.perf_counter() - middle))
        return [statistics.median(each) * 1000 for each in zip(*taken, strict=True)]

    @task
    def workflow(self: Task, name: str) -> list[Any]:
        """A little of each kind of call."""
        first = self.step(effect, self.request.id, 1)
        answer = self.suspend(f"approve-{name}", timeout=_PATIENCE)
        self.sleep(0.5)
        second = self.step(effect, self.request.id, 2)
        pair = self.wait_for(app.signature("add", (1, 2)), app.signature("add", (3, 4)))
        both = self.wait_for(app.signature("add", (5, 6)) | app.signature("add", (10,)))
        note("end", self.request.id)
        return [first["number"], answer, second["number"], pair, both]

    def written(task_id: str, place: int) -> str:
        """An effect that takes a moment; its value tells it from one of another run."""
        note(f"in{place}", task_id)
        time.sleep(0.05)
        value = uuid.uuid4().hex[:8]
        note(f"out{place}", f"{task_id}/{value}")
        return value

    @task
    def ten(self: Task, name: str, children: int) -> list[str]:
        """Ten steps, with a suspension, a sleep and a wait for other tasks between them."""
        values = []
        for place in range(10):
            if place == 3:
                self.suspend(f"ten-{name}", timeout=600)
            elif place == 5:
                self.sleep(1)
            elif place == 7:
                ones = self.wait_for(*(app.signature("add", (each, place)) for each in range(children)))
                assert ones == [each + place for each in range(children)], ones
            values.append(self.step(written, self.request.id, place))
            note(f"kept{place}", self.request.id)
        note("end", self.request.id)
        return values

    @task
    def wait(self: Task, correlation_id: str, options: dict[str, Any] | None = None) -> Any:
        """Is suspended once. With ``first``, it is stopped, so that it can be killed, when that is told."""
        note("begin", self.request.id)
        found = self.suspend(correlation_id, **{"timeout": _PATIENCE, **(options or {})})
        note("end", self.request.id)
        return list(found) if isinstance(found, tuple) else found

    @task
    def pausing(self: Task, correlation_id: str, timeout: float) -> Any:
        """Is suspended once, and says when it gives its slot up."""
        note("begin", self.request.id)
        try:
            found = self.suspend(correlation_id, timeout=timeout, on_timeout="continue")
        except Ignore:
            note("pause", self.request.id)
            raise
        note("end", self.request.id)
        return found

    @task
    def torn_wait(self: Task, correlation_id: str) -> Any:
        """Is suspended once; the first run stays when the control plane was told, and before its end is."""
        note("begin", self.request.id)
        tell = self.backend.suspend

        def tell_and_stay(*args: Any, **kwargs: Any) -> None:
            tell(*args, **kwargs)
            stay_once(self.request.id)

        self.backend.suspend = tell_and_stay
        try:
            found = self.suspend(correlation_id, timeout=_PATIENCE)
        finally:
            self.backend.suspend = tell
        note("end", self.request.id)
        return found

    @task
    def loop(self: Task, correlation_id: str, times: int) -> list[Any]:
        """Is suspended so many times with one correlation id."""
        found = [self.suspend(correlation_id, timeout=_PATIENCE) for _ in range(times)]
        note("end", self.request.id)
        return found

    @task
    def catching(self: Task, correlation_id: str) -> str:
        """Catches all that its suspension raises."""
        try:
            answer: str = self.suspend(correlation_id, timeout=_PATIENCE)
        except Exception:
            note("caught", self.request.id)
            return "caught"
        note("end", self.request.id)
        return answer

    @task
    def changed(self: Task, correlation_id: str) -> None:
        """Makes another call in its second run."""
        mark = mark_of(self.request.id)
        self.step(effect, self.request.id, 1, name="other" if mark.exists() else "one")
        mark.touch()
        self.suspend(correlation_id, timeout=_PATIENCE)

    @task
    def retried(self: Task, times: int) -> int:
        """Is retried after its step, so many times."""
        found = self.step(effect, self.request.id, 1)
        if self.request.retries < times:
            raise self.retry(countdown=0)
        self.step(effect, self.request.id, 2)
        note("end", self.request.id)
        number: int = found["number"]
        return number

    @task
    def outlasting(self: Task, gates: list[str], size: int) -> int:
        """Makes its first durable call when a file is there, in each of two runs: it waits for a task with a long result."""
        mark = mark_of(self.request.id)
        gate = gates[mark.exists()]
        mark.touch()
        note("begin", self.request.id)
        while not Path(gate).exists():
            time.sleep(0.02)
        found: str = self.wait_for(app.signature("add", ("x" * size, "y")))
        note("end", self.request.id)
        return len(found)

    def stumbling(self: Task) -> str:
        """Fails after its step, until a file exists: its message is a dead letter."""
        found = self.step(effect, self.request.id, 1)
        if not mark_of(self.request.id).exists():
            raise ValueError("not yet")
        note("end", self.request.id)
        return str(found["number"])

    app.task(shared=False, name="stumbling", bind=True, acks_on_failure=False)(stumbling)

    @task
    def heavy(self: Task, correlation_id: str, number: int, size: int) -> list[int]:
        """Has large values in steps before it is suspended."""
        found = [self.step(effect, self.request.id, each, size) for each in range(number)]
        self.suspend(correlation_id, timeout=_PATIENCE)
        note("end", self.request.id)
        return [len(each["filling"]) for each in found]

    @task
    def gather(self: Task, numbers: list[int], timeout: float | None = None) -> Any:
        """Waits for as many tasks; one with a negative number fails."""
        note("begin", self.request.id)
        children = [
            app.signature("add" if each >= 0 else "fail", (each, 1) if each >= 0 else ("no",)) for each in numbers
        ]
        return self.wait_for(*children, timeout=timeout)

    @task
    def awaits(
        self: Task, ids: list[str], number: int = 0, timeout: float | None = _PATIENCE, grouped: bool = False
    ) -> Any:
        """Waits for tasks that were sent before, perhaps as a group, and for so many that it sends."""
        note("begin", self.request.id)
        children = [app.signature("add", (each, 1)) for each in range(number)]
        results = [app.AsyncResult(each) for each in ids]
        found = self.wait_for(*([app.GroupResult("g", results)] if grouped else results), *children, timeout=timeout)
        note("end", self.request.id)
        return found


def add_jobs(app: Celery, note: Callable[[str, str], None]) -> None:
    """Gives an app a job."""

    class Order(Job):
        """A job with a step of each kind."""

        name = "order"
        steps = ("reserve", "approve", "pack", "ship", "never")
        max_retries = 5

        def begin(self, context: dict[str, Any]) -> None:
            note("job-begin", self.request.id)

        def commit(self, context: dict[str, Any]) -> None:
            note("job-commit", self.request.id)

        def rollback(self, context: dict[str, Any]) -> None:
            note("job-rollback", self.request.id)

        def reserve(self, context: dict[str, Any]) -> Any:
            note("reserve", self.request.id)
            context["tries"] = context.get("tries", 0) + 1
            return Delay(0) if context["tries"] < 3 else None

        def approve(self, context: dict[str, Any]) -> Any:
            note("approve", self.request.id)
            return Suspend(context["approval"], timeout=_PATIENCE)

        def pack(self, context: dict[str, Any], data: Any) -> Any:
            note("pack", self.request.id)
            if context.get("stays"):
                stay_once(self.request.id)
            context["approved"] = data
            return Wait(0.2)

        def ship(self, context: dict[str, Any]) -> Any:
            note("ship", self.request.id)
            context["parcels"] = context.get("parcels", 0) + 1
            if context["parcels"] < 3:
                return Done(0)
            return Error("no more") if context.get("fails") else Stop()

        def never(self, context: dict[str, Any]) -> None:
            note("never", self.request.id)

    class Count(Job):
        """A job of many short steps."""

        name = "count"
        version = int(os.environ.get("COUNT_VERSION", "1"))
        steps = ("increase",)
        max_steps_per_run = 10

        def increase(self, context: dict[str, Any]) -> Any:
            context["n"] = context.get("n", 0) + 1
            if str(self.version).startswith("2:"):
                context["version"] = 2
            return Done(0 if context["n"] < 35 else context.get("last", 1))

    app.register_task(Order())
    app.register_task(Count())
