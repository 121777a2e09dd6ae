"""``celery kafka topics``: the topics of the prefix, each with its purpose, its setting up, and how it deviates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kafka_exec.cli.common import echo_table, json_option
from kafka_exec.settings.appconf import prefix_of

if TYPE_CHECKING:
    from kafka_exec.core.doctor.reports import TopicReport

COLUMNS = ("TOPIC", "PURPOSE", "PARTITIONS", "REPLICAS", "KEPT", "RECORDS", "DEVIATES")


@click.command()
@json_option
@click.pass_context
def topics(context: click.Context, as_json: bool) -> None:
    """List the topics, and what is wrong with them.

    \b
    Example: celery -A shop kafka topics
    """
    from kafka_exec.operations.queues import topics as reports

    found = reports(context.obj.app)
    if as_json:
        for each in found:
            click.echo(json.dumps({"schema": 1, **each.facts()}))
    elif found:
        echo_table([COLUMNS, *map(_row, found)])
        click.echo(f"{len(found)} topics with {sum(each.partitions for each in found)} partitions")
    else:
        click.echo(f"no topics with the prefix {prefix_of(context.obj.app)}")


def _row(each: TopicReport) -> tuple[str, ...]:
    numbers = (each.partitions, each.replicas, each.kept, each.records)
    return (each.topic, each.purpose, *map(str, numbers), "; ".join(each.deviations))
