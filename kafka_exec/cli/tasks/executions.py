"""``celery kafka show`` and ``celery kafka executions``: the states of tasks, from the state records."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator

import click

from kafka_exec.cli.common import echo_table, json_option, progress
from kafka_exec.cli.tasks.choosing import choosing
from kafka_exec.core.overview.choosing.filters import COUNTED, TaskFilter
from kafka_exec.core.overview.times import time_of
from kafka_exec.core.results.lifecycle import State, to_celery
from kafka_exec.core.results.state_record import ABSENT, Encoded, StateRecord

COLUMNS = ("ID", "STATE", "NAME", "QUEUE", "WORKER", "ATTEMPTS", "STARTED", "SECONDS")


@click.command()
@click.argument("task_id")
@json_option
@click.pass_context
def show(context: click.Context, task_id: str, as_json: bool) -> None:
    """Show what is known of a task."""
    from kafka_exec.operations.tasks import task

    found = task(context.obj.app, task_id)
    click.echo(json.dumps(found.as_json()) if as_json else "\n".join(_details(found)))


@click.command()
@click.argument("task_id")
@click.argument("text")
@click.option("--by", default=getpass.getuser, show_default="the user", help="The author.")
@click.pass_context
def remark(context: click.Context, task_id: str, text: str, by: str) -> None:
    """Add a remark to a task; its state stays as it is."""
    from kafka_exec.operations import tasks

    tasks.remark(context.obj.app, task_id, text, by)


@click.command()
@choosing
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="So many, the latest.")
@click.option("--count", "by", type=click.Choice(COUNTED), help="Only how many there are of each.")
@json_option
@click.pass_context
def executions(context: click.Context, chosen: TaskFilter, limit: int, by: str | None, as_json: bool) -> None:
    """List tasks, the latest first.

    A running task whose worker is gone is marked as lost; it runs again elsewhere.

    \b
    Example: celery -A shop kafka executions --state FAILED --since 1h --where 'error ~ "timeout"'
    """
    from kafka_exec.operations.tasks import counted, latest

    if by is not None:
        found = counted(context.obj.app, chosen, by, progress())
        if as_json:
            for name, number in found:
                click.echo(json.dumps({by: name, "number": number}))
        else:
            echo_table([(by.upper(), "NUMBER"), *((name, str(number)) for name, number in found)])
        return
    listing = latest(context.obj.app, chosen, limit, progress())
    if as_json:
        for facts in listing.facts():
            click.echo(json.dumps(facts))
        return
    echo_table([COLUMNS, *(_row(record, record.id in listing.lost) for record in listing.records)])
    if listing.matching > len(listing.records):
        click.echo(f"{listing.matching - len(listing.records)} more: --limit shows them", err=True)


def _row(record: StateRecord, lost: bool) -> tuple[str, ...]:
    return (
        record.id,
        _state(record, lost),
        record.name or "",
        record.queue or "",
        record.worker or "",
        str(record.attempts or ""),
        time_of(record.started),
        _duration(record),
    )


def _state(record: StateRecord, lost: bool) -> str:
    """The state of a task; of a running task also the application's own word for it, such as ABORTED."""
    is_own = record.state is State.RUNNING and record.status != to_celery(State.RUNNING)
    more = [*([record.status] if is_own else []), *(["lost"] if lost else [])]
    return f"{record.state.value} ({', '.join(more)})" if more else record.state.value


def _details(record: StateRecord) -> Iterator[str]:
    """A line for each fact of a task, then its errors, remarks and traceback."""
    facts = record.as_json()
    for name in ("created", "due", "started", "finished"):
        if name in facts:
            facts[name] = time_of(facts[name])
    if isinstance(record.result, Encoded):
        facts["result"] = f"{len(record.result.data)} bytes"
    elif record.result is not ABSENT:
        facts["result"] = json.dumps(record.result)
    if record.exception is not None:
        facts["exception"] = f"{record.exception.type}: {record.exception.message}"
    for name in ("schema", "traceback", "errors", "remarks"):
        facts.pop(name, None)
    width = max(map(len, facts))
    for name, value in facts.items():
        yield f"{name.ljust(width)}  {value}"
    for error in record.errors:
        yield f"error {time_of(error.at)} on {error.worker or '?'}: {error.type}: {error.message}"
    for remark in record.remarks:
        yield f"remark {time_of(remark.at)} by {remark.by}: {remark.text}"
    if record.traceback:
        yield record.traceback


def _duration(record: StateRecord) -> str:
    if record.started is None or record.finished is None:
        return ""
    return f"{record.finished - record.started:.3f}"
