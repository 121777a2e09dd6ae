"""``celery kafka suspended``: the tasks that wait for callbacks."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from kafka_exec.cli.common import echo_table, json_option
from kafka_exec.core.overview.times import age_of, when

if TYPE_CHECKING:
    from kafka_exec.core.control.waiting import Suspension

COLUMNS = ("CORRELATION", "TASK", "AGE", "CALLBACKS", "DEADLINE")


@click.command()
@json_option
@click.pass_context
def suspended(context: click.Context, as_json: bool) -> None:
    """List the tasks that wait for callbacks, the oldest first.

    \b
    Example: celery -A shop kafka suspended
    """
    from kafka_exec.operations import tasks

    found, now = tasks.suspended(context.obj.app), time.time()
    if as_json:
        for each in found:
            click.echo(json.dumps({"schema": 1, **each._asdict()}))
    elif found:
        echo_table([COLUMNS, *(_row(each, now) for each in found)])
    else:
        click.echo("no task is suspended")


def _row(each: Suspension, now: float) -> tuple[str, ...]:
    callbacks = f"{each.got} of {each.expected}" if each.expected else "none, only its time"
    deadline = "" if each.deadline is None else when(each.deadline, now)
    return (each.correlation_id, each.task, age_of(each.created, now), callbacks, deadline)
