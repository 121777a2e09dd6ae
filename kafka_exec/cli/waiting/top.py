"""``celery kafka top``: how many tasks come, begin and end a second, by queue and by name."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping

import click

from kafka_exec.cli.common import echo_table, json_option, watch_option, watched
from kafka_exec.core.overview.rates import TaskRates, lines, with_total
from kafka_exec.settings.appconf import broker_home

COLUMNS = ("QUEUE", "TASK", "IN/S", "BEGUN/S", "OUT/S", "WAIT")


@click.command()
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@click.option("--seconds", type=click.IntRange(1, 3600), default=60, show_default=True, help="Over the last so many.")
@watch_option
@json_option
@click.pass_context
def top(context: click.Context, names: tuple[str, ...], seconds: int, watch: float | None, as_json: bool) -> None:
    """Show the rates of queues and tasks.

    The first line of a queue is for all its tasks. It reads Kafka, and asks no worker.

    \b
    Example: celery -A shop kafka top --watch 2
    """
    from kafka_exec.operations.queues import rates

    space = broker_home(context.obj.app)
    for _ in watched(watch):
        found = rates(space, names, time.time() - seconds)
        if as_json:
            for line in lines(found, seconds):
                click.echo(json.dumps(line))
        elif found:
            echo_table([COLUMNS, *(row for queue in sorted(found) for row in _rows(queue, found[queue], seconds))])
        else:
            click.echo(f"no queues with the prefix {space.topics.prefix}")


def _rows(queue: str, tasks: Mapping[str, TaskRates], seconds: int) -> Iterator[tuple[str, ...]]:
    for task, each in with_total(tasks):
        names = (queue, "") if task is None else ("", task or "?")
        a_second = (f"{number / seconds:.1f}" for number in (each.sent, each.begun, each.ended))
        yield (*names, *a_second, "" if each.wait is None else f"{each.wait:.2f} s")
