"""What a node says to the processes of the entries that run on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Run(NamedTuple):
    """Begin a run. ``request``: what the task knows of it; ``id`` is that of the run."""

    task: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    request: Mapping[str, Any]


class Stop(NamedTuple):
    """Stop a run, if it is under way."""

    run: str
    reason: str


class Lease(NamedTuple):
    """Until when the process may go on without being told so again, seconds of the machine's monotonic clock."""

    until: float


class End(NamedTuple):
    """Release what the claim holds, and end."""
