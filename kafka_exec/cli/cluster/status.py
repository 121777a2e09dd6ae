"""``celery kafka status``: the cluster, the queues and nodes, and what needs an operator."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from kafka_exec.cli.common import FOUND_WRONG, echo_table, json_option


@click.command()
@click.option("--check", is_flag=True, help=f"End with status {FOUND_WRONG} if something is wrong, for monitors.")
@json_option
@click.pass_context
def status(context: click.Context, check: bool, as_json: bool) -> None:
    """Show queues, nodes and what needs an operator.

    It reads Kafka, so it is right also if no worker lives.

    \b
    Example: celery -A shop kafka status --check
    """
    from kafka_exec.operations import queues

    facts = queues.status(context.obj.app, time.time())
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print(facts)
    if check and queues.is_wrong(facts):
        sys.exit(FOUND_WRONG)


def _print(facts: dict[str, Any]) -> None:
    click.echo(f"Kafka at {facts['servers']}, prefix {facts['prefix']}")
    click.echo(f"nodes: {', '.join(f'{number} {kind}' for kind, number in facts['nodes'].items()) or 'none is alive'}")
    columns = ("queue", "ready", "running", "delayed", "blocked", "dead", "workers", "state")
    rows = [tuple(str(queue[name]) for name in columns) for queue in facts["queues"]]
    echo_table([tuple(name.upper() for name in columns), *rows])
    for problem in facts["problems"]:
        click.echo(f"{problem['severity']}: {problem['text']} ({problem['command']})")
    if not facts["problems"]:
        click.echo("nothing needs an operator")
