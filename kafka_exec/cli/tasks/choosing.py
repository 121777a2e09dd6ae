"""The options by which commands choose tasks, the same for lists and for acts."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, TypeVar

import click

from kafka_exec.cli.common import confirm, echo_table, progress
from kafka_exec.core.overview.choosing import filters, messages
from kafka_exec.core.overview.choosing.expressions import Predicate
from kafka_exec.core.overview.choosing.filters import TaskFilter
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import ConfigurationError

T = TypeVar("T")

#: So many tasks are shown before the question, the latest.
_SHOWN = 10


def moment(text: str) -> float:
    """A time in epoch seconds, of an age or a date."""
    return _read(lambda text: filters.moment(text, time.time()), text)


def time_to_come(text: str) -> float:
    """A time in epoch seconds, after a while or of a date."""
    return _read(lambda text: filters.time_to_come(text, time.time()), text)


def states_of(text: str) -> frozenset[State]:
    """States, separated by commas."""
    return _read(filters.states_of, text)


def where(text: str) -> Predicate:
    """The predicate of an expression over the parts of a task."""
    return _read(filters.expression, text)


def message_where(text: str) -> Predicate:
    """The predicate of an expression over the parts of a message."""
    return _read(messages.expression, text)


def _read(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
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

#: The names of these options, as a filter has them.
_NAMES = ("name", "states", "active", "queue", "key", "worker", "since", "until", "where")


def choosing(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that choose tasks, and their filter as ``chosen``."""

    @wraps(command)
    def call(*args: Any, **options: Any) -> None:
        command(*args, chosen=TaskFilter.of(**{name: options.pop(name) for name in _NAMES}), **options)

    for option in reversed(_OPTIONS):
        call = option(call)
    return call


def propose(
    columns: Sequence[str],
    found: Sequence[StateRecord],
    row: Callable[[StateRecord], Sequence[str]],
    question: str,
    *,
    dry_run: bool,
    yes: bool,
) -> bool:
    """Shows the latest of the tasks that were chosen for an act, and asks. Returns False if they were only to be listed."""
    shown = heapq.nlargest(len(found) if dry_run else _SHOWN, found, key=filters.changed)
    echo_table([columns, *map(row, shown)])
    if dry_run:
        return False
    if len(found) > len(shown):
        click.echo(f"and {len(found) - len(shown)} more")
    confirm(question, yes)
    return True


def in_batches(ids: Sequence[str], most: int, rate: float | None, title: str) -> Iterator[Sequence[str]]:
    """The ids in batches of so many at most, and so many a second; tells the progress after each."""
    step = most if rate is None else max(1, min(most, int(rate)))
    said = progress(title)
    for begin in range(0, len(ids), step):
        batch = ids[begin : begin + step]
        yield batch
        said(begin + len(batch), len(ids))
        if rate is not None and begin + step < len(ids):
            time.sleep(len(batch) / rate)
