"""``celery kafka history``: everything that has happened to a task, from the records of all topics that tell of it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import click

from kafka_exec.cli.common import echo_table, json_option

if TYPE_CHECKING:
    from kafka_exec.core.durable.trail import Happening

COLUMNS = ("TIME", "EVENT", "ATTEMPT", "WORKER", "PLACE", "DETAIL")


@click.command()
@click.argument("task_id")
@click.option("--tree", is_flag=True, help="Show the states of the task and of all tasks that it has sent.")
@json_option
@click.pass_context
def history(context: click.Context, task_id: str, tree: bool, as_json: bool) -> None:
    """Show everything that has happened to a task: its messages, runs, steps, errors and its end.

    Each has its place in Kafka. The records of ended tasks are there for kafka_exec_audit_retention.
    """
    from kafka_exec.operations import tasks

    if tree:
        for branch in tasks.tree(context.obj.app, task_id):
            line = f"{'  ' * branch.depth}{branch.state}  {branch.name}  {branch.id}"
            click.echo(json.dumps(branch._asdict()) if as_json else line)
        return
    found, happenings = tasks.history(context.obj.app, task_id)
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
