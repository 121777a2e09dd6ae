"""The executors of an app, and the choice between them for each task.

Another package offers an executor by an entry point of the group ``kafka_exec.executors``: a name and a class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar

from celery import Celery
from celery.exceptions import ImproperlyConfigured

from kafka_exec.app.task import Task
from kafka_exec.core.worker.retry import RetryPolicy
from kafka_exec.core.worker.strategies import LOCAL, Offer, chosen

#: The group of entry points, by which other packages offer executors.
GROUP = "kafka_exec.executors"


class Executor(ABC):
    """A strategy by which tasks are run. Subclass it, and give an instance to :func:`use_executor`.

    Attributes:
        name: decides between executors of the same priority: the first one in the order of names.
        priority: the highest one runs a task. A function of the application has 0.
        tasks: the names of the tasks that it may run.
        retrying: the policy by which these tasks are retried; None: they are not.
    """

    name: ClassVar[str] = ""
    priority: int = 10
    tasks: Collection[str] = ()
    retrying: RetryPolicy | None = None

    def supports(self, task: str) -> bool:
        """True if it can run a task of this name, here and now. A worker asks once, when it starts."""
        return task in self.tasks

    @abstractmethod
    def run(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Runs a task. Returns its result.

        Args:
            task: Celery's task; ``task.request.id`` is the same in all its runs.

        Raises:
            Recoverable: the task is retried by the policy.
            Unrecoverable: the task fails.
        """


def use_executor(app: Celery, executor: Executor | str, **options: Any) -> Executor:
    """Has an app's tasks run by an executor. Call it where the app is made.

    Args:
        executor: an executor, or the name of an entry point: ``http``, ``command``, or one of another package.
        options: the arguments of the entry point's class.

    Raises:
        ImproperlyConfigured: there is no such executor, its options are wrong, or the app is finalized already.
    """
    if app.finalized:
        raise ImproperlyConfigured("use_executor() comes too late: the app is finalized; call it where it is made")
    if isinstance(executor, str):
        executor = _load(executor, options)
    if not isinstance(executor, Executor):
        raise ImproperlyConfigured(f"an executor must be a kafka_exec.Executor, not {executor!r:.100}")
    made: list[Executor] = vars(app).setdefault("kafka_exec_executors", [])
    made.append(executor)
    if len(made) == 1:
        app.on_after_finalize.connect(_register_all, weak=False)
    return executor


def _load(name: str, options: Mapping[str, Any]) -> Executor:
    found = [each for each in entry_points(group=GROUP) if each.name == name]
    if not found:
        known = ", ".join(sorted(each.name for each in entry_points(group=GROUP)))
        raise ImproperlyConfigured(f"there is no executor {name!r}; installed are {known}")
    try:
        executor: Executor = found[0].load()(**options)
    except (TypeError, ValueError, ImportError) as error:
        raise ImproperlyConfigured(f"executor {name}: {error}") from error
    return executor


def _register_all(sender: Celery, **kwargs: Any) -> None:
    """Registers the tasks that executors run, where no function of the application comes first."""
    executors: list[Executor] = vars(sender)["kafka_exec_executors"]
    for task in sorted({name for executor in executors for name in executor.tasks}):
        able = [executor for executor in executors if executor.supports(task)]
        offers = [Offer(executor.priority, executor.name, place) for place, executor in enumerate(able)]
        local = [LOCAL] if task in sender.tasks else []
        best = chosen([*local, *offers])
        if best is not None and best is not LOCAL:
            _register(sender, task, able[best.place])


def _register(app: Celery, name: str, executor: Executor) -> None:
    class Executed(Task):
        """A task that an executor runs."""

        retrying = executor.retrying

        def run(self, *args: Any, **kwargs: Any) -> Any:
            return executor.run(self, args, kwargs)

    task = Executed()
    task.name = name
    app.tasks.pop(name, None)
    app.register_task(task)
