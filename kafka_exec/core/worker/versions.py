"""Versions of tasks: those that a worker can run, and the one that a message needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: The header of a task that holds the version that its sender knows; without it, any version may run the task.
TASK_VERSION = "task_version"

_DIGITS = frozenset("0123456789")
_PARTS = re.compile(r"[0-9]+|[^0-9]+")


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


def newest(name: str, known: Iterable[tuple[float, Iterable[str]]]) -> str | None:
    """The newest version of a task that one of some workers can run; None: they know no version of it.

    The number, or the text, before a colon decides; of several with the same one that of the worker that began last.

    Args:
        known: when each worker began, and its capabilities.

    Raises:
        LookupError: none of them knows the task.
    """
    tasks = [(since, each) for since, tasks in known for each in tasks if each.partition("@")[0] == name]
    if not tasks:
        raise LookupError(f"no living worker knows task {name}")
    versions = [(_order(version), since, version) for since, each in tasks if (version := each.partition("@")[2])]
    return max(versions)[2] if versions else None


def _order(version: str) -> list[tuple[bool, int, str]]:
    """The place of a version among others: numbers in it count as such, and are after texts."""
    parts = _PARTS.findall(version.partition(":")[0])
    return [(part[0] in _DIGITS, int(part) if part[0] in _DIGITS else 0, part) for part in parts]


def needed(headers: Mapping[str, Any]) -> str:
    """The capability that a worker needs for a message with these headers."""
    return capability(str(headers.get("task")), headers.get(TASK_VERSION))
