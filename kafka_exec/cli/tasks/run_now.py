"""``celery kafka run`` and ``celery kafka retry``: run tasks now that wait for their time, or for that of a retry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from kafka_exec.cli.common import progress, rate_option
from kafka_exec.cli.tasks.choosing import choosing, in_batches, propose
from kafka_exec.core.overview.choosing.filters import TaskFilter
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord

COLUMNS = ("ID", "STATE", "NAME", "QUEUE", "KEY")

#: So many tasks are asked for at once.
_BATCH = 5_000


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
    from kafka_exec.operations.run_now import run_now
    from kafka_exec.operations.tasks import choose

    states = frozenset({state}).intersection(chosen.states or {state})
    found = list(choose(context.obj.app, replace(chosen, states=states), progress()))
    if not found:
        click.echo("no tasks are chosen that wait for their time")
        return
    if not propose(COLUMNS, found, _row, f"Run {len(found)} tasks now?", dry_run=dry_run, yes=yes):
        return
    batches = in_batches([record.id for record in found], _BATCH, rate, "Moving")
    gone = sum(run_now(context.obj.app, frozenset(batch)) for batch in batches)
    click.echo(f"{gone} tasks have gone to their queues" + _others(len(found) - gone))


def _others(count: int) -> str:
    return f"; {count} do not wait any more" if count else ""


def _row(record: StateRecord) -> tuple[str, ...]:
    return (record.id, record.state.value, record.name or "", record.queue or "", record.ordering_key or "")
