"""``celery kafka plan``: what a queue needs, from the figures of its tasks or from its log."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from kafka_exec.cli.common import FOUND_WRONG, a_second, echo_table, json_option
from kafka_exec.cli.tasks.choosing import moment
from kafka_exec.core.overview.planning import amounts
from kafka_exec.errors import ConfigurationError

if TYPE_CHECKING:
    from kafka_exec.core.overview.planning.plan import Figure, QueuePlan

COLUMNS = ("FIGURE", "PLAN", "NOW", "FOLLOWS FROM")


def _amount(read: Callable[[str], float]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            return read(text)
        except ConfigurationError as error:
            raise click.BadParameter(str(error)) from None

    return convert


_size, _duration = _amount(amounts.to_bytes), _amount(amounts.to_seconds)


@click.command()
@click.argument("queue", required=False)
@click.option("--rate", type=a_second, metavar="N/s", help="So many tasks come.")
@click.option("--run", type=_duration, metavar="TIME", help="A task runs so long: 0.5s, 5min.")
@click.option("--size", type=_size, metavar="SIZE", help="Of a message with its headers: 2kB; 890 B by default.")
@click.option("--keys", type=click.IntRange(1), help="All tasks have one of so many ordering keys.")
@click.option("--slots", type=click.IntRange(1), help="Pool slots of a worker; 4 by default.")
@click.option("--retention", type=_duration, metavar="TIME", help="Ended messages are kept so long.")
@click.option("--replicas", type=click.IntRange(1), help="Of each partition; 3 by default.")
@click.option(
    "--from", "since", type=moment, metavar="TIME", default="1h", show_default=True, help="Measure QUEUE since then."
)
@json_option
@click.pass_context
def plan(
    context: click.Context,
    queue: str | None,
    rate: float | None,
    run: float | None,
    size: float | None,
    keys: int | None,
    slots: int | None,
    retention: float | None,
    replicas: int | None,
    since: float,
    as_json: bool,
) -> None:
    """QueuePlan slots, workers, partitions and disk of a queue.

    With QUEUE the figures of its tasks are measured from its log, those that are given replace them. Without it --rate
    and --run are needed, and nothing is connected. It ends with status 3 if no number of workers is enough.

    \b
    Examples: celery -A shop kafka plan --rate 200/s --run 0.5s --size 2kB
              celery -A shop kafka plan mail --rate 400/s
    """
    from kafka_exec.operations.planning import Given, plan_for, plan_of

    app, given = context.obj.app, Given(rate, run, size, keys, slots, retention, replicas)
    if queue is not None:
        found = plan_of(app, queue, given, since, time.time())
    elif rate is None or run is None:
        raise click.UsageError("name a queue to measure, or give --rate and --run")
    elif context.get_parameter_source("since") is not ParameterSource.DEFAULT:
        raise click.UsageError("--from needs a queue to measure")
    else:
        found = plan_for(app, rate, run, given)
    if as_json:
        click.echo(json.dumps({"schema": 1, "queue": queue, **found.facts()}))
    else:
        _show(found, is_measured=queue is not None)
    if found.obstacles:
        sys.exit(FOUND_WRONG)


def _show(found: QueuePlan, *, is_measured: bool) -> None:
    rows = [COLUMNS, *map(_row, found.figures)]
    echo_table(rows if is_measured else [(name, value, reason) for name, value, _, reason in rows])
    for each in found.obstacles:
        click.echo(f"not possible: {each}")


def _row(figure: Figure) -> tuple[str, ...]:
    if figure.name.startswith("disk"):
        value = amounts.size_of(figure.value)
    elif figure.name == "drain":
        value = amounts.duration_of(figure.value)
    else:
        value = amounts.number_of(figure.value)
    now = "" if figure.now is None else amounts.number_of(figure.now)
    return figure.name.replace("_", " "), value, now, figure.reason
