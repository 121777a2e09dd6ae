"""``celery kafka history``: everything that has happened to a task, from the records of all topics that tell of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from kafka_exec.cli.common import echo_table, json_option, result_backend

if TYPE_CHECKING:
    from kafka_exec.core.durable.trail import Happening
    from kafka_exec.core.results.state_record import StateRecord

COLUMNS = ("TIME", "EVENT", "ATTEMPT", "WORKER", "PLACE", "DETAIL")

#: A canvas is followed so deep: a task may send itself for ever.
_DEEPEST = 50


@click.command()
@click.argument("task_id")
@click.option("--tree", is_flag=True, help="Show the states of the task and of all tasks that it has sent.")
@json_option
@click.pass_context
def history(context: click.Context, task_id: str, tree: bool, as_json: bool) -> None:
    """Show everything that has happened to a task: its messages, runs, steps, errors and its end.

    Each has its place in Kafka. The records of ended tasks are there for kafka_exec_audit_retention.
    """
    from kafka_exec.kafka.results.trail import read_trail

    backend = result_backend(context)
    found = backend.reader.find(task_id)
    if found is None:
        raise click.ClickException(f"nothing is known of task {task_id}")
    if tree:
        for depth, record in _tree(backend, found, 0, set()):
            line = {"depth": depth, "id": record.id, "name": record.name, "state": record.state.value}
            click.echo(
                json.dumps(line) if as_json else f"{'  ' * depth}{record.state.value}  {record.name}  {record.id}"
            )
        return
    happenings = read_trail(backend.space.cluster, backend.space.topics, backend.notes, found)
    if as_json:
        for each in happenings:
            click.echo(json.dumps(each.as_json()))
        return
    click.echo(f"{found.name} {found.id}: {found.state.value}")
    for what, other in (("parent", found.parent), ("root", found.root if found.root != found.id else None)):
        if other:
            click.echo(f"{what} {other}")
    echo_table([COLUMNS, *map(_row, happenings)])


def _row(each: Happening) -> tuple[str, ...]:
    at = datetime.fromtimestamp(each.at).astimezone().isoformat(" ", "milliseconds") if each.at else ""
    place = f"{each.topic} {each.partition}:{each.offset}" if each.topic else ""
    return at, each.what, str(each.attempt or ""), each.worker, place, each.detail


def _tree(backend: Any, record: StateRecord, depth: int, seen: set[str]) -> Iterator[tuple[int, StateRecord]]:
    """A task and all that it has sent, directly or not, each with its depth."""
    if record.id in seen or depth > _DEEPEST:
        return
    seen.add(record.id)
    yield depth, record
    for child in _ids(record.children):
        if (found := backend.reader.find(child)) is not None:
            yield from _tree(backend, found, depth + 1, seen)


def _ids(children: Any) -> Iterator[str]:
    """The task ids in Celery's nested lists of children: ``[[id, parent], results]``."""
    for each in children or ():
        if not isinstance(each, list) or len(each) != 2:
            continue
        (head, inner) = each
        if isinstance(head, list) and head and isinstance(head[0], str) and not inner:
            yield head[0]
        yield from _ids(inner)
