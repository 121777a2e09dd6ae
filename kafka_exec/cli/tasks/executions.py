"""``celery kafka show`` and ``celery kafka executions``: the states of tasks, from the state records."""

from __future__ import annotations

import getpass
import heapq
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from kafka_exec.cli.common import echo_table, json_option, progress, result_backend, time_of
from kafka_exec.core.results.lifecycle import TERMINAL, State, to_celery
from kafka_exec.core.results.state_record import ABSENT, Encoded

if TYPE_CHECKING:
    from kafka_exec.core.results.state_record import StateRecord

COLUMNS = ("ID", "STATE", "NAME", "QUEUE", "WORKER", "ATTEMPTS", "STARTED", "SECONDS")


@click.command()
@click.argument("task_id")
@json_option
@click.pass_context
def show(context: click.Context, task_id: str, as_json: bool) -> None:
    """Show what is known of a task."""
    found = result_backend(context).history(task_id)
    if found is None:
        raise click.ClickException(f"nothing is known of task {task_id}")
    click.echo(json.dumps(found.as_json()) if as_json else "\n".join(_details(found)))


@click.command()
@click.argument("task_id")
@click.argument("text")
@click.option("--by", default=getpass.getuser, show_default="the user", help="The author.")
@click.pass_context
def remark(context: click.Context, task_id: str, text: str, by: str) -> None:
    """Add a remark to a task; its state stays as it is."""
    backend = result_backend(context)
    if backend.reader.find(task_id) is None:
        raise click.ClickException(f"nothing is known of task {task_id}")
    backend.remark(task_id, text, by)


@click.command()
@click.option("--active", is_flag=True, help="Only tasks that have not ended.")
@click.option("--state", type=click.Choice([state.value for state in State], case_sensitive=False))
@click.option("--name", help="Only tasks of this name.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="So many, the latest.")
@json_option
@click.pass_context
def executions(
    context: click.Context,
    active: bool,
    state: str | None,
    name: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List tasks, the latest first. A running task whose worker is gone is marked as lost; it runs again elsewhere."""
    matching = 0

    def wanted() -> Iterator[StateRecord]:
        nonlocal matching
        for record in result_backend(context).reader.scan(progress()):
            if (
                (not active or record.state not in TERMINAL)
                and state in (None, record.state.value)
                and name in (None, record.name)
            ):
                matching += 1
                yield record

    from kafka_exec.backend.housekeeping import lost

    found = heapq.nlargest(limit, wanted(), key=_latest)
    gone = {record.id for record in lost(result_backend(context), found)}
    if as_json:
        for record in found:
            click.echo(json.dumps({**record.as_json(), **({"lost": True} if record.id in gone else {})}))
        return
    echo_table([COLUMNS, *(_row(record, record.id in gone) for record in found)])
    if matching > len(found):
        click.echo(f"{matching - len(found)} more: --limit shows them", err=True)


def _latest(record: StateRecord) -> float:
    return record.finished or record.started or record.created or 0.0


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
