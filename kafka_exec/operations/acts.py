"""Acts on single tasks: sending one, resuming it, replaying its dead letter, revoking it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from celery import Celery
from celery.utils import uuid

from kafka_exec.app.durable.resuming import Resumed, resume
from kafka_exec.app.scheduled import tell_scheduled
from kafka_exec.app.sending import addressed
from kafka_exec.beat.periodic import PeriodicTasks
from kafka_exec.core.message.dead import Order
from kafka_exec.core.message.envelope import DEDUPLICATION_ID
from kafka_exec.core.results.lifecycle import TERMINAL, State
from kafka_exec.errors import ConfigurationError, KafkaExecError, NotFound, NotInKafka, WrongState
from kafka_exec.kafka.overview.letters import buried
from kafka_exec.kafka.overview.reading import layout_of
from kafka_exec.kafka.publish.scopes import confirmed
from kafka_exec.kafka.queue.dead import DeadLetters
from kafka_exec.operations.run_now import run_now
from kafka_exec.operations.tasks import result_backend, suspended, task
from kafka_exec.settings.appconf import broker_home


def send(
    app: Celery,
    name: str,
    args: list[Any],
    kwargs: Mapping[str, Any],
    *,
    eta: datetime | None = None,
    queue: str | None = None,
    **options: Any,
) -> str:
    """Sends a task, and writes its first state before; its id.

    Args:
        options: of kafka_exec, such as ``ordering_key``.

    Raises:
        NotFound: nobody knows a task of this name, or there is no such queue.
        ConfigurationError: an option is wrong.
        ConnectionFailed, NotConfirmed: the task may not have been sent.
    """
    require_task(app, name)
    if queue is not None:
        _require_queue(app, queue)
        options["queue"] = queue
    is_new = options.get(DEDUPLICATION_ID) is None
    options = _addressed(app, name, args, kwargs, {"task_id": uuid() if is_new else None, **options})
    task_id: str = options["task_id"]
    if is_new or not _is_known(app, task_id):
        with confirmed():  # a worker that begins at once writes its states after this one
            tell_scheduled(app, name, None, options)
    app.send_task(name, args, dict(kwargs), eta=eta, **options)
    return task_id


def _addressed(
    app: Celery, name: str, args: list[Any], kwargs: Mapping[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    """The options with ours as headers, if the task takes the arguments, as far as the application knows it."""
    known = app.tasks.get(name)
    try:
        if known is not None and known.typing and hasattr(known, "__header__"):
            known.__header__(*args, **kwargs)
        return addressed(name, known, args, kwargs, options)
    except KafkaExecError:
        raise
    except Exception as error:  # of the function that makes the task's ordering key, or of Celery's check
        raise ConfigurationError(f"{name} does not take these arguments: {error}") from None


def require_task(app: Celery, name: str) -> None:
    """Refuses the name of a task that nobody would run.

    Raises:
        NotFound: neither the application nor a worker that lives knows the task.
    """
    if name not in app.tasks and not PeriodicTasks(app).knows(name):
        raise NotFound(f"neither the application nor a worker that lives knows a task {name}")


def _require_queue(app: Celery, name: str) -> None:
    space = broker_home(app)
    if name not in app.amqp.queues and not space.cluster.topics.partitions(space.topics.queue(name), fresh=True):
        known = layout_of(space.cluster).queue_names(space.topics)
        raise NotFound(f"there is no queue {name!r}; there are {', '.join(known) or 'none'}")


def _is_known(app: Celery, task_id: str) -> bool:
    try:
        return result_backend(app).reader.find(task_id) is not None
    except NotInKafka:
        return True


def resume_task(app: Celery, task_id: str, data: Any, callback_id: str | None, *, timeout: float) -> Resumed:
    """Resumes a task that is suspended, as :func:`kafka_exec.resume` does.

    Raises:
        NotFound: nothing is known of the task.
        WrongState: the task is not suspended.
    """
    for each in suspended(app):
        if each.task == task_id:
            return resume(app, each.correlation_id, data, callback_id, timeout=timeout)
    state = task(app, task_id).state
    if state is State.SUSPENDED:
        raise WrongState(f"the control plane does not know yet that task {task_id} is suspended: try again")
    raise WrongState(f"task {task_id} is not suspended: it is {state.value}")


def replay_task(app: Celery, task_id: str, args: list[Any] | None, kwargs: dict[str, Any] | None) -> int:
    """Replays the dead letter of a task, with other arguments if they are given; the number of letters replayed, 0 or 1.

    Raises:
        NotFound: nothing is known of the task.
        WrongState: the task has no dead letter that was not replayed.
        NotReplayable: it cannot be replayed, or not with these arguments.
    """
    space = broker_home(app)
    letters, _ = buried(space.cluster, space.topics, layout_of(space.cluster))
    found = letters.get(task_id)
    if found is None:
        state = task(app, task_id).state.value
        raise WrongState(f"task {task_id} has no dead letter that was not replayed: it is {state}")
    order = Order((found.letter.address,), args=args, kwargs=kwargs)
    return DeadLetters(space.cluster, space.topics, found.queue).replay(order)


def revoke(app: Celery, task_id: str, *, terminate: bool) -> None:
    """Asks all workers to revoke a task. ``terminate``: also ends the process that runs it.

    Raises:
        WrongState: the task has ended.
    """
    state = result_backend(app).reader.find(task_id)
    if state is not None and state.state in TERMINAL:
        raise WrongState(f"task {task_id} has ended: it is {state.state.value}")
    app.control.revoke(task_id, terminate=terminate)


def run_task_now(app: Celery, task_id: str) -> None:
    """Has a task run now that waits for its time, or for that of a retry.

    Raises:
        NotFound: nothing is known of the task.
        WrongState: it does not wait for a time.
        NotConfirmed: nobody moves it.
    """
    if not run_now(app, [task_id]):
        raise WrongState(f"task {task_id} does not wait for a time: it is {task(app, task_id).state.value}")
