"""``celery kafka run`` and ``celery kafka retry``: run tasks now that wait for their time, or for that of a retry."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from kafka_exec.cli.common import confirm, echo_table, progress, rate_option
from kafka_exec.cli.tasks.choosing import choosing
from kafka_exec.core.overview.choosing.filters import TaskFilter, changed
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord

COLUMNS = ("ID", "STATE", "NAME", "QUEUE", "KEY")

#: So many tasks are asked for at once.
_BATCH = 5_000

#: So many tasks are shown before the question, the latest.
_SHOWN = 10


def _asking(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options by which it is careful."""
    options = (
        rate_option,
        click.option("--dry-run", is_flag=True, help="Only list them."),
        click.option("--yes", is_flag=True, help="Do not ask."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@choosing
@_asking
@click.pass_context
def run(context: click.Context, /, chosen: TaskFilter, **how: Any) -> None:
    """Run the chosen tasks now that wait for their time.

    \\b
    Example: celery -A shop kafka run --name 'reports.*'
    """
    _run(context, chosen, State.SCHEDULED, **how)


@click.command()
@choosing
@_asking
@click.pass_context
def retry(context: click.Context, /, chosen: TaskFilter, **how: Any) -> None:
    """Have retries of the chosen tasks begin now that wait for their time.

    \\b
    Example: celery -A shop kafka retry --where 'error ~ "timeout"'
    """
    _run(context, chosen, State.DELAYED, **how)


def _run(
    context: click.Context, chosen: TaskFilter, state: State, rate: float | None, *, dry_run: bool, yes: bool
) -> None:
    from kafka_exec.operations.tasks import choose

    states = frozenset({state}).intersection(chosen.states or {state})
    found = list(choose(context.obj.app, replace(chosen, states=states), progress()))
    if not found:
        click.echo("no tasks are chosen that wait for their time")
        return
    shown = heapq.nlargest(len(found) if dry_run else _SHOWN, found, key=changed)
    echo_table([COLUMNS, *map(_row, shown)])
    if dry_run:
        return
    if len(found) > len(shown):
        click.echo(f"and {len(found) - len(shown)} more")
    confirm(f"Run {len(found)} tasks now?", yes)
    gone = _hasten(context, [record.id for record in found], rate)
    click.echo(f"{gone} tasks have gone to their queues" + _others(len(found) - gone))


def _others(count: int) -> str:
    return f"; {count} do not wait any more" if count else ""


def _hasten(context: click.Context, ids: list[str], rate: float | None) -> int:
    from kafka_exec.operations.run_now import run_now

    step = _BATCH if rate is None else max(1, min(_BATCH, int(rate)))
    said = progress("Moving")
    gone = 0
    for begin in range(0, len(ids), step):
        batch = frozenset(ids[begin : begin + step])
        gone += run_now(context.obj.app, batch)
        said(begin + len(batch), len(ids))
        if rate is not None and begin + step < len(ids):
            time.sleep(len(batch) / rate)
    return gone


def _row(record: StateRecord) -> tuple[str, ...]:
    return (record.id, record.state.value, record.name or "", record.queue or "", record.ordering_key or "")
