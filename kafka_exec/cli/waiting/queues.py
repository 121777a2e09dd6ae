"""``celery kafka queues``: what waits in each queue, and for what."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from kafka_exec.cli.common import echo_table, json_option, watch_option, watched
from kafka_exec.core.overview.times import age_of
from kafka_exec.settings.appconf import broker_home

if TYPE_CHECKING:
    from kafka_exec.core.overview.queues import QueueReport

COLUMNS = (
    "QUEUE",
    "READY",
    "RUNNING",
    "DELAYED",
    "BLOCKED",
    "PARKED",
    "OLDEST",
    "IN/S",
    "WORKERS",
    "SLOTS",
    "FREE",
    "DEAD",
    "STATE",
)


@click.command()
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@watch_option
@json_option
@click.pass_context
def queues(context: click.Context, names: tuple[str, ...], watch: float | None, as_json: bool) -> None:
    """Show what waits in the queues, and for what.

    It reads Kafka, so it is right also if no worker lives.

    \b
    Example: celery -A shop kafka queues --watch 2
    """
    from kafka_exec.operations.queues import reports

    space = broker_home(context.obj.app)
    for _ in watched(watch):
        now = time.time()
        found = reports(space, names, now)
        if as_json:
            for each in found:
                click.echo(json.dumps({"schema": 1, **each.facts(now)}))
        elif found:
            echo_table([COLUMNS, *(_row(each, now) for each in found)])
        else:
            click.echo(f"no queues with the prefix {space.topics.prefix}")


def _row(found: QueueReport, now: float) -> tuple[str, ...]:
    counts = found.counts
    return (
        found.name,
        f"{counts.ready}{'+' if counts.uncounted else ''}",
        str(counts.running + counts.lost),
        str(found.delayed),
        str(counts.blocked),
        str(counts.parked),
        age_of(counts.oldest, now),
        f"{found.rate:.1f}",
        str(found.workers),
        str(found.slots),
        str(found.free),
        str(found.dead),
        found.state.value,
    )
