"""Versions of tasks: what a worker is able to run, and what a message needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: Under this name a task's headers say of which version its sender knows it; no such header: of any.
TASK_VERSION = "task_version"


def capabilities(tasks: Iterable[Any]) -> Iterator[str]:
    """What a worker with these tasks is able to run: their names, and with ``@`` each version that their code can run."""
    for task in tasks:
        yield task.name
        version = getattr(task, "version", None)
        for each in (version, *getattr(task, "runs_versions", ())) if version is not None else ():
            yield capability(task.name, each)


def capability(name: str, version: Any) -> str:
    """What a worker must be able to run for a task of a version; None: of any."""
    return name if version is None else f"{name}@{version}"


def needed(headers: Mapping[str, Any]) -> str:
    """The same for a message with these headers."""
    return capability(str(headers.get("task")), headers.get(TASK_VERSION))
