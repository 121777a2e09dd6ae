"""Durable calls of tasks: ``self.step()``, ``self.suspend()``, ``self.sleep()`` and ``self.wait_for()``.

A task that waits gives its slot up. When it continues, its function runs again from its top, and each durable call that was
answered before returns at once what it returned then. So what is in no step may run again, and the function must make the
same calls in the same order in each run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import wraps
from inspect import unwrap
from types import CodeType
from typing import Any, NamedTuple, TypeVar

from celery import group
from celery.canvas import Signature
from celery.result import AsyncResult, GroupResult

from kafka_exec.app.durable.run import FOR_EVER, DurableRun, now
from kafka_exec.backend.control.suspensions import RUN
from kafka_exec.core.durable.continuation import TIMED_OUT
from kafka_exec.core.durable.history import SLEEP, SUSPENSION
from kafka_exec.core.record.fields import an_id
from kafka_exec.errors import NotDurable, SuspensionTimedOut

T = TypeVar("T")

#: The names of the durable calls.
CALLS = frozenset({"step", "suspend", "sleep", "sleep_until", "wait_for"})


class TimedOut(NamedTuple):
    """The value of a suspension with ``on_timeout="continue"`` that nobody has resumed in time.

    Attributes:
        correlation_id: the suspension's.
        answers: the data of the callbacks that came, by their ids.
    """

    correlation_id: str
    answers: Mapping[str, Any]


class Durable:
    """The durable calls of a task.

    Attributes:
        durable: True if the task makes durable calls, so that the begin of each of its runs is durable before it starts.
            None: it does if its function's code names one. Say True if only functions that it calls name them.
    """

    durable: bool | None = None
    request: Any
    backend: Any
    app: Any
    name: Any
    run: Any

    def step(self, function: Callable[..., T], *args: Any, name: str | None = None, **kwargs: Any) -> T:
        """Calls a function once: a later run of the task gets the value that it has returned.

        The value is in Kafka before this returns. An error of the function is not recorded: the next run calls it again. A
        worker that is killed within the function makes the next run call it again too.

        Args:
            name: of the step; the function's by default. A name that comes again in a run is numbered.

        Raises:
            NonDeterministic: an earlier run has made another call in this place.
            ResultTooLarge: the value is larger than Kafka takes.
        """
        if self._is_eager:
            return function(*args, **kwargs)
        run = self._run
        return run.step(name or getattr(function, "__name__", None) or type(function).__name__, function, args, kwargs)

    def suspend(
        self,
        correlation_id: str,
        timeout: float | None = None,
        callbacks: int | Collection[str] = 1,
        on_timeout: str = "fail",
    ) -> Any:
        """Suspends the task until it is resumed. Returns the data of the callback.

        If several callbacks are expected, it returns their data by their ids.

        Args:
            correlation_id: the id by which :func:`kafka_exec.resume` names the suspension.
            timeout: seconds; ``kafka_exec_suspend_timeout`` by default.
            callbacks: the number of distinct callbacks, or their ids.
            on_timeout: ``"fail"``: :class:`SuspensionTimedOut` is raised; ``"continue"``: :class:`TimedOut` is returned.

        Raises:
            SuspensionTimedOut: nobody has resumed the task in time.
            CorrelationInUse: another task waits with the same id.
            NonDeterministic: an earlier run has made another call in this place.
            NotDurable: the task does not run in a worker.
        """
        an_id(correlation_id, "a correlation id")
        if on_timeout not in ("fail", "continue"):
            raise ValueError(f'on_timeout must be "fail" or "continue", not {on_timeout!r:.60}')
        expected = _expected(callbacks)
        self._require_worker()
        run = self._run
        timeout = run.settings.suspend_timeout if timeout is None else _seconds(timeout)
        continued = run.wait(SUSPENSION, correlation_id, correlation_id, expected, timeout)
        answers = {each: run.backend.value_of(data) for each, data in continued.answers.items()}
        if continued.outcome == TIMED_OUT:
            if on_timeout == "continue":
                return TimedOut(correlation_id, answers)
            raise SuspensionTimedOut(
                f"{len(answers)} callbacks of suspension {correlation_id} came within {timeout:g} s"
            )
        return next(iter(answers.values())) if expected == 1 else answers

    def sleep(self, seconds: float) -> None:
        """Waits without a slot.

        Raises:
            NonDeterministic: an earlier run has made another call in this place.
        """
        seconds = _seconds(seconds)
        if self._is_eager:
            time.sleep(seconds)
            return
        run = self._run
        run.wait(SLEEP, "", f"{run.task_id}/{run.history.position}", 0, seconds)

    def sleep_until(self, when: datetime | float) -> None:
        """Waits without a slot until a time: a datetime with a time zone, or epoch seconds."""
        if isinstance(when, datetime):
            if when.tzinfo is None:
                raise ValueError(f"the time {when} needs a time zone")
            when = when.timestamp()
        self.sleep(max(0.0, when - now()))

    def wait_for(self, *tasks: Signature | AsyncResult | GroupResult, timeout: float | None = None) -> Any:
        """Runs other tasks, and waits for their results without a slot. Returns the result; of several tasks the list.

        Args:
            tasks: signatures; of a chain the last result counts, of a group there is a list. Or results of tasks that were
                sent before, which may have ended; if such a task stores no result, the wait ends at its timeout.
            timeout: seconds; None: no limit.

        Raises:
            SuspensionTimedOut: they have not all ended in time.
            NonDeterministic: an earlier run has made another call in this place.
            Exception: the error of the first of them that has failed.
        """
        parts = [_parts(task) for task in tasks]
        flat = [each for some in parts for each in (some if isinstance(some, list) else [some])]
        for each in flat:
            if not isinstance(each, (Signature, AsyncResult)):
                raise TypeError(f"wait_for() takes signatures, such as add.s(1, 2), and results, not {each!r:.100}")
        if self._is_eager:
            results = [(each.apply() if isinstance(each, Signature) else each).get() for each in flat]
        elif flat:
            results = self._run.results_of(flat, timeout)
        else:
            results = []
        ready = iter(results)
        found = [[next(ready) for _ in some] if isinstance(some, list) else next(ready) for some in parts]
        return found[0] if len(tasks) == 1 else found

    @property
    def _is_eager(self) -> bool:
        return bool(self.request.called_directly or self.request.is_eager)

    def _require_worker(self) -> None:
        if self._is_eager:
            raise NotDurable(f"task {self.name} can be suspended only in a worker")

    @property
    def _run(self) -> DurableRun:
        run: DurableRun | None = getattr(self.request, RUN, None)
        if run is None:
            run = DurableRun(self)
            setattr(self.request, RUN, run)
        return run


def _parts(task: Any) -> Any:
    """The list of what a group consists of; anything else as it is."""
    if isinstance(task, (group, GroupResult)):
        return list(task.tasks if isinstance(task, group) else task.results)
    return task


def let_suspensions_pass(task: Any) -> None:
    """Wraps a task's ``run``, so that a suspension which the function has caught ends the run all the same."""
    if hasattr(task, "_run_through"):
        return
    task._run_through = task.run

    @wraps(task.run)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return task._run_through(*args, **kwargs)
        finally:
            made: DurableRun | None = getattr(task.request, RUN, None)
            if made is not None and made.suspended is not None:
                raise made.suspended

    task.run = run


def makes_durable_calls(task: Any) -> bool:
    """True if a task makes durable calls, as far as it says, or its function's code shows it."""
    if task.durable is not None:
        return bool(task.durable)
    code = getattr(unwrap(task.run), "__code__", None)
    return isinstance(code, CodeType) and not CALLS.isdisjoint(_names(code))


def _names(code: CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= FOR_EVER:
        raise ValueError(f"a number of seconds from 0 to {FOR_EVER:.0f} is expected, not {value!r:.60}")
    return float(value)


def _expected(callbacks: Any) -> int | list[str]:
    if isinstance(callbacks, int) and not isinstance(callbacks, bool) and callbacks > 0:
        return callbacks
    if (
        isinstance(callbacks, (list, tuple, set, frozenset))
        and callbacks
        and all(isinstance(c, str) for c in callbacks)
    ):
        return sorted(set(callbacks))
    raise ValueError(f"callbacks must be a number above 0, or the ids of callbacks, not {callbacks!r:.100}")
