"""The base class of tasks, which retries them by a policy, and the remarks of a running task."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from random import random
from typing import Any

from celery import current_app, current_task
from celery.app.task import Task as CeleryTask
from celery.exceptions import ImproperlyConfigured, Reject, TaskPredicate

from kafka_exec.app.durable.calls import Durable, let_suspensions_pass, makes_durable_calls
from kafka_exec.backend import KafkaBackend
from kafka_exec.core.message.envelope import START_BY
from kafka_exec.core.record.fields import id_text
from kafka_exec.core.results.state_record import Remark
from kafka_exec.core.worker.retry import RetryPolicy
from kafka_exec.errors import ConfigurationError
from kafka_exec.settings.appconf import SAFER_DEFAULTS
from kafka_exec.settings.options import is_set
from kafka_exec.signals import begun

#: Celery's settings that say if the message of a failed task is acknowledged.
_ACKS = ("task_acks_on_failure", "task_acks_on_failure_or_timeout")


class _Configured:
    """An attribute that the task's author has not set. Each reading returns the configuration's value at that time.

    Celery's own attributes are copies that it makes at the task's first use, perhaps before the broker's URL is known.
    """

    def __init__(self, key: str) -> None:
        self._key = key

    def __get__(self, task: Any, kind: Any) -> Any:
        return kind._app.conf[self._key]


def settle(task: Any) -> None:
    """Copies the attributes of a task that depend on the broker, since a worker reads them for each message."""
    for name, key in task.from_config:
        if key in SAFER_DEFAULTS:
            setattr(task, name, getattr(task, name))


class Task(Durable, CeleryTask):  # type: ignore[misc]
    """Celery's task, which a policy may retry. It is the base class of an app's tasks unless the app has another one.

    If the app, or a task, has another base class, such as Celery's for Django, this class is put beneath it: see
    :func:`with_ours`.

    An error that the policy retries ends the attempt as ``self.retry()`` does: it is noted, and the task waits in Kafka.
    When all tries are used up, or the policy does not retry the error, the task fails with that error, and its message
    becomes a dead letter. The dead letter comes from Celery's ``acks_on_failure=False``, which a task with a policy has
    unless the task or the configuration says otherwise; it needs ``acks_late``. A task that exceeds its hard time limit is
    killed, and ends as without a policy. The soft time limit is an error like any other.

    ``self.retry()`` works as usual, and counts as one of the tries. If its own ``max_retries`` are used up, it raises an
    error like any other. ``autoretry_for`` beside a policy is refused.

    Attributes:
        retrying: the policy; None: only Celery's own options and ``self.retry()`` retry the task. For all tasks of an app:
            ``app.Task.retrying = RetryPolicy()``, before they are made.
        version: a number or a text that changes when messages of the task need newer code. A worker with another version
            leaves them to a worker with the right one. None: any worker that has the task runs them.
        runs_versions: other versions whose messages the task's code can run.
    """

    retrying: RetryPolicy | None = None
    version: int | str | None = None
    runs_versions: tuple[int | str, ...] = ()

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Binds the task to an app. Celery calls this when the configuration of its options may be read.

        Raises:
            ImproperlyConfigured: ``retrying`` is no policy, or there is ``autoretry_for`` too.
        """
        cls._app = app
        if not hasattr(cls.before_start, "_asks"):
            cls.before_start = _asking(cls.before_start)
        followed = {
            name: _Configured(key)
            for name, key in cls.from_config
            if key in SAFER_DEFAULTS and getattr(cls, name, None) is None
        }
        for name, value in followed.items():
            setattr(cls, name, value)
        unsaid = getattr(cls, "acks_on_failure", None) is None and cls.acks_on_failure_or_timeout is None
        bound = super().bind(app)
        for name, value in followed.items():
            if vars(cls)[name] is None:  # Celery sets what is None
                setattr(cls, name, value)
        task = app._tasks.get(cls.name)
        if type(task) is not cls:  # Celery has named the instance of a class without a name
            task = next((each for each in app._tasks.values() if type(each) is cls), None)
        if task is not None:
            task.durable = makes_durable_calls(task)  # a worker asks for each message
            if task.durable:
                let_suspensions_pass(task)
        if cls.retrying is None:
            return bound
        if not isinstance(cls.retrying, RetryPolicy):
            raise ImproperlyConfigured(f"task {cls.name}: retrying must be a RetryPolicy, not {cls.retrying!r}")
        if unsaid and not any(is_set(app.conf, key) for key in _ACKS):
            cls.acks_on_failure = False
        for task in app._tasks.values():
            if type(task) is cls:
                _retry_by_policy(task)
        return bound


def with_ours(base: type) -> type:
    """The application's base class with ours beneath it. The application's attributes win."""
    if issubclass(base, Task):
        return base
    if issubclass(Task, base):  # Celery's own
        return Task
    return type(base.__name__, (base, Task), {"__module__": base.__module__, "__doc__": base.__doc__})


def made_ours(task: Any) -> Any:
    """A task with our base class beneath its own. ``task``: a class, or an instance of one."""
    made = task() if isinstance(task, type) else task
    made.__class__ = with_ours(type(made))
    return made


def _asking(before_start: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's handler of a start, which the process that runs the task calls last before the task's code.

    That process may have been stopped with the task in its hands, while another worker has taken the task over. A start that
    is only slow is none of this: the worker still owns the task.
    """

    @wraps(before_start)
    def ask(task: Any, *args: Any) -> Any:
        start_by = task.request.get(START_BY)
        late = 0.0 if start_by is None else time.monotonic() - start_by
        if late > 0 and isinstance(task.backend, KafkaBackend) and task.backend.pauses.since(time.time() - late):
            raise Reject("its start comes too late: its worker was stopped", requeue=True)
        begun.send(task)
        return before_start(task, *args)

    ask._asks = True  # type: ignore[attr-defined]
    return ask


def _retry_by_policy(task: Any) -> None:
    """Wraps a task's ``run``, as Celery does for ``autoretry_for``."""
    if hasattr(task, "_run_once"):
        return
    if getattr(task, "autoretry_for", ()) or hasattr(task, "_orig_run"):
        raise ImproperlyConfigured(
            f"task {task.name} has a RetryPolicy and autoretry_for: name those exceptions in the policy's `on`, "
            "or give the task retrying=None"
        )
    task._run_once = task.run

    @wraps(task.run)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return task._run_once(*args, **kwargs)
        except TaskPredicate:
            raise
        except Exception as error:
            policy, retries = task.retrying, task.request.retries
            if retries >= policy.tries(error) or not policy.retries_after(error):
                raise
            delay = policy.delay(retries + 1, random(), error)
            raise task.retry(exc=error, countdown=delay, max_retries=policy.tries(error))

    task.run = run


def remark(text: str, *, task_id: str | None = None, by: str | None = None, app: Any = None) -> Remark:
    """Adds a remark to a task, durably; ``celery kafka show`` shows it. It does not change the task's state.

    Args:
        text: the remark.
        task_id: the task's id; within a task, its own id by default.
        by: the author of the remark; within a task, its worker by default.
        app: the task's or the current application by default.

    Raises:
        ConfigurationError: the application has no kafka-exec result back end, or the task id is missing.
        NotConfirmed, MessageTooLarge, ConnectionFailed: the remark is not written.
    """
    request = current_task.request if current_task else None
    backend = (app or (current_task.app if current_task else current_app)).backend
    if not isinstance(backend, KafkaBackend):
        raise ConfigurationError("a remark needs an application with a kafka-exec:// result backend")
    task_id = id_text(task_id or (request and request.id))
    if not task_id:
        raise ConfigurationError("a remark outside of a task needs a task_id")
    return backend.remark(task_id, text, by or (request and request.hostname) or "")
