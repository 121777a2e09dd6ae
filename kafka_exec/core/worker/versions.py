"""Versions of tasks: those that a worker can run, and the one that a message needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: The header of a task that holds the version that its sender knows; without it, any version may run the task.
TASK_VERSION = "task_version"


def capabilities(tasks: Iterable[Any]) -> Iterator[str]:
    """The names of all tasks that a worker can run, and ``name@version`` for each version that their code can run."""
    for task in tasks:
        yield task.name
        version = getattr(task, "version", None)
        for each in (version, *getattr(task, "runs_versions", ())) if version is not None else ():
            yield capability(task.name, each)


def capability(name: str, version: Any) -> str:
    """The capability that a worker needs for a task of this version; None: of any version."""
    return name if version is None else f"{name}@{version}"


def needed(headers: Mapping[str, Any]) -> str:
    """The capability that a worker needs for a message with these headers."""
    return capability(str(headers.get("task")), headers.get(TASK_VERSION))
