"""The options by which commands choose tasks, the same for lists and for acts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import wraps
from typing import Any

import click

from kafka_exec.cli.common import progress, result_backend
from kafka_exec.core.overview.expressions import Predicate
from kafka_exec.core.overview.filters import TaskFilter, expression
from kafka_exec.core.results.lifecycle import TERMINAL, State
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import ConfigurationError

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_DISTANCE = re.compile(rf"(\d+(?:\.\d+)?) *({'|'.join(_UNITS)})")


def moment(text: str) -> float:
    """A time in epoch seconds: of an age such as ``90 s``, ``2h`` or ``1 d``, or of a date, which may name a time zone."""
    return _time(text, -1)


def time_to_come(text: str) -> float:
    """A time in epoch seconds: after a while such as ``90 s``, ``2h`` or ``1 d``, or of a date."""
    return _time(text, 1)


def _time(text: str, sign: int) -> float:
    if (distance := _DISTANCE.fullmatch(text.strip())) is not None:
        return time.time() + sign * float(distance[1]) * _UNITS[distance[2]]
    try:
        return datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        what = "age" if sign < 0 else "time"
        raise click.BadParameter(
            f"{text!r} is no {what} (90 s, 5 min, 2 h, 1 d) and no date (2026-01-31 14:00)"
        ) from None


def states_of(text: str) -> frozenset[State]:
    """States, separated by commas."""
    names = [each.strip().upper() for each in text.split(",")]
    if wrong := [name for name in names if name not in State.__members__]:
        raise click.BadParameter(f"{wrong[0]!r} is no state: there are {', '.join(State.__members__)}")
    return frozenset(map(State, names))


def where(text: str) -> Predicate:
    """The predicate of an expression over the parts of a task."""
    try:
        return expression(text)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None


_OPTIONS = (
    click.option("--name", metavar="GLOB", help="Only tasks of this name."),
    click.option("--state", "states", type=states_of, metavar="S,…", help="Only tasks in one of these states."),
    click.option("--active", is_flag=True, help="Only tasks that have not ended."),
    click.option("--queue", metavar="GLOB", help="Only tasks of this queue."),
    click.option("--key", metavar="GLOB", help="Only tasks of this ordering key."),
    click.option("--worker", metavar="GLOB", help="Only tasks of this worker."),
    click.option("--since", type=moment, metavar="TIME", help="Changed since then: 90 s, 2 h, 1 d, or a date."),
    click.option("--until", type=moment, metavar="TIME", help="Changed before then."),
    click.option("--where", type=where, metavar="EXPR", help="Only tasks for which this is true: args[0] == 42."),
)


def choosing(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that choose tasks, and their filter as ``chosen``."""

    @wraps(command)
    def call(*args: Any, states: frozenset[State] | None, active: bool, **options: Any) -> None:
        found = {name: options.pop(name) for name in ("name", "queue", "key", "worker", "since", "until", "where")}
        allowed = frozenset(State) - TERMINAL if active else frozenset(State)
        if states is not None:
            allowed &= states
        chosen = TaskFilter(states=None if allowed == frozenset(State) else allowed, **found)
        command(*args, chosen=chosen, **options)

    for option in reversed(_OPTIONS):
        call = option(call)
    return call


def choose(context: click.Context, chosen: TaskFilter) -> Iterator[StateRecord]:
    """The state records of the tasks that a filter chooses, in no order.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    return filter(chosen.matches, result_backend(context).reader.scan(progress(), since=chosen.since))
