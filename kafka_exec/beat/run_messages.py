"""The messages of a node to the processes of the entries that run on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class BeginRun(NamedTuple):
    """Begin a run of a task. ``request`` becomes the task's request; its ``id`` is the run's id."""

    task: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    request: Mapping[str, Any]


class StopRun(NamedTuple):
    """StopRun a run, if it is under way; the task's error says the reason."""

    run: str
    reason: str


class GoOnUntil(NamedTuple):
    """Go on without another lease until this time, seconds of the machine's monotonic clock."""

    until: float


class EndProcess(NamedTuple):
    """EndProcess the process in order, because the claim is released."""
