"""Jobs: tasks that are a table of steps with a context, for whoever prefers that to a function. They are durable tasks."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, NamedTuple

from celery import current_app
from celery.exceptions import ImproperlyConfigured

from kafka_exec.app.task import Task
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.core.nodes.heartbeat import NodeState, roll
from kafka_exec.core.worker.versions import TASK_VERSION, newest
from kafka_exec.errors import ConfigurationError, Recoverable, Unrecoverable
from kafka_exec.kafka.nodes.node import TASKS_EVERY, heard
from kafka_exec.settings.appconf import broker_home


class Done(NamedTuple):
    """The step is done, and the step ``increment`` places further is next: 0 is the same one, -1 the one before."""

    increment: int = 1


class Stop(NamedTuple):
    """The job is done; its remaining steps are not run."""


class Delay(NamedTuple):
    """The same step runs again later, as a retry. ``seconds``: by default those of the job's policy, or its retry delay."""

    seconds: float | None = None


class Suspend(NamedTuple):
    """The job waits for :func:`kafka_exec.resume`; the step that runs then gets the data as its second argument.

    Attributes:
        correlation_id, timeout, callbacks: as in :meth:`Task.suspend`.
        increment: the step that runs then: 1 is the next one, 0 the same one.
    """

    correlation_id: str
    timeout: float | None = None
    callbacks: int | Collection[str] = 1
    increment: int = 1


class Wait(NamedTuple):
    """The job waits for some seconds, or until a time, and goes on with the next step."""

    seconds: float = 0.0
    until: datetime | float | None = None


class Error(NamedTuple):
    """The job fails, and is not retried."""

    message: str


_OUTCOMES: Mapping[str, Any] = {kind.__name__: kind for kind in (Done, Stop, Delay, Suspend, Wait, Error)}

#: The longest signature of a job's steps, characters.
_SIGNATURE = 8

#: The heartbeats of so many periods have the names of all tasks that a living node knows.
_BEATS = TASKS_EVERY + 5


class Job(Task):
    """A task of named steps with a context, a dictionary that can be serialized like a result.

    A step is a method, ``def reserve(self, context)`` or ``def reserve(self, context, data)``. It may change the context,
    and returns :class:`Done`, which is also meant by None, :class:`Stop`, :class:`Delay`, :class:`Suspend`, :class:`Wait` or
    :class:`Error`. The context and the place are in Kafka after each step: who is killed in a step begins it again. The
    job's result is its context at the end. An error of a step is one of the task: its policy may retry it, with this step.

    Attributes:
        steps: the names of the steps, in their order. They are part of the job's version: a worker whose job has other steps
            leaves the messages of this one to others.
        max_steps_per_run: after so many steps the job gives its slot up once, so that other tasks have their turn.
    """

    abstract = True
    steps: ClassVar[tuple[str, ...]] = ()
    max_steps_per_run = 100
    durable = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Adds the signature of the steps to the version.

        Raises:
            ImproperlyConfigured: a step is no method, or ``max_steps_per_run`` is below 1.
        """
        super().__init_subclass__(**kwargs)
        if "steps" not in vars(cls):
            return
        for name in cls.steps:
            if not callable(getattr(cls, name, None)):
                raise ImproperlyConfigured(f"job {cls.__name__}: its step {name!r} is no method")
        if type(cls.max_steps_per_run) is not int or cls.max_steps_per_run < 1:
            raise ImproperlyConfigured(f"job {cls.__name__}: max_steps_per_run must be a whole number above 0")
        signature = hashlib.sha256("\n".join(cls.steps).encode()).hexdigest()[:_SIGNATURE]
        cls.version = f"{vars(cls).get('version') or 1}:{signature}"

    # -- hooks ---------------------------------------------------------------------------------------------------------

    def begin(self, context: dict[str, Any]) -> None:
        """Called before a step; for example to open a transaction."""

    def commit(self, context: dict[str, Any]) -> None:
        """Called after a step, before its context is in Kafka."""

    def rollback(self, context: dict[str, Any]) -> None:
        """Called after a step that has raised an error, or could not be committed."""

    # -- running -------------------------------------------------------------------------------------------------------

    def run(self, context: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs the steps; Celery calls it."""
        context, place, data = dict(context or {}), 0, None
        for count in range(1, 10**9):
            if not 0 <= place < len(self.steps):
                break
            name = self.steps[place]
            executed: list[None] = []
            context, (kind, *fields) = self.step(
                partial(self._perform, name, context, data, executed), name=f"{name}/{count}"
            )
            outcome, data = _OUTCOMES[kind](*fields), None
            if isinstance(outcome, Stop):
                break
            if isinstance(outcome, Error):
                raise Unrecoverable(outcome.message)
            place += self._next(outcome, place)
            if isinstance(outcome, Suspend):
                data = self.suspend(outcome.correlation_id, outcome.timeout, _callbacks(outcome.callbacks))
            elif isinstance(outcome, Wait):
                self._wait(outcome)
            elif isinstance(outcome, Delay) and executed:
                raise self._delayed(outcome)
            elif count % self.max_steps_per_run == 0:
                self.sleep(0)
        return context

    def _perform(self, name: str, context: dict[str, Any], data: Any, executed: list[None]) -> Any:
        """Runs a step. Returns the context after it, and its outcome, as they are recorded."""
        method = getattr(self, name)
        arguments = (context, data)[: len(inspect.signature(method).parameters)]
        self.begin(context)
        try:
            outcome = method(*arguments)
            outcome = Done() if outcome is None else outcome
            if type(outcome) not in _OUTCOMES.values():
                raise Unrecoverable(
                    f"step {name} of job {self.name} has returned {outcome!r:.100}: no outcome of a step"
                )
            self.commit(context)
        except BaseException:
            self.rollback(context)
            raise
        executed.append(None)
        if isinstance(outcome, Suspend) and not isinstance(outcome.callbacks, int):
            outcome = outcome._replace(callbacks=sorted(outcome.callbacks))
        if isinstance(outcome, Wait) and isinstance(outcome.until, datetime):
            outcome = outcome._replace(until=outcome.until.timestamp())
        return [context, [type(outcome).__name__, *outcome]]

    def _next(self, outcome: Any, place: int) -> int:
        """The number of places by which the job goes on.

        Raises:
            Unrecoverable: there is no such step.
        """
        if isinstance(outcome, Delay):
            return 0
        increment: int = getattr(outcome, "increment", 1)
        if not 0 <= place + increment <= len(self.steps):
            raise Unrecoverable(
                f"step {self.steps[place]} of job {self.name} has the increment {increment}, which leads to no step"
            )
        return increment

    def _wait(self, outcome: Wait) -> None:
        if outcome.until is None:
            self.sleep(outcome.seconds)
        else:
            self.sleep_until(outcome.until)

    def _delayed(self, outcome: Delay) -> BaseException:
        if outcome.seconds is None and self.retrying is not None:
            return Recoverable("a step of the job is to run again later")
        retry: BaseException = self.retry(countdown=outcome.seconds, throw=False)
        return retry


def create(app: Any, name: str, context: dict[str, Any] | None = None, **options: Any) -> Any:
    """Sends a job by its name, in the newest version that a living worker knows. The application need not have its class.

    Args:
        app: the application, or None: the current one.
        context: the job's context at the begin.
        options: as for Celery's ``apply_async()``.

    Returns:
        Celery's result object of the job.

    Raises:
        ConfigurationError: no living worker knows the job, or the application has no kafka-exec broker.
        ConnectionFailed, NotConfirmed: the job may not have been sent.
    """
    app = app or current_app
    space = broker_home(app)
    period = space.settings.heartbeat
    beats = heard(space.cluster, nodes_topic(space.topics), time.time() - _BEATS * period)
    alive = (s.beat for s, state in roll(beats, now=time.time(), period=period) if state is NodeState.ALIVE)
    try:
        version = newest(name, ((beat.since, beat.tasks or ()) for beat in alive))
    except LookupError as error:
        raise ConfigurationError(str(error)) from None
    headers = {**(options.pop("headers", None) or {}), **({} if version is None else {TASK_VERSION: version})}
    send = app.tasks[name].apply_async if name in app.tasks else partial(app.send_task, name)
    return send(args=(context or {},), headers=headers, **options)


def _callbacks(value: Any) -> Any:
    return value if isinstance(value, int) else set(value)
