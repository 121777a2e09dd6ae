"""``celery kafka nodes``: the workers and beats that exist, by their heartbeats."""

from __future__ import annotations

import json
import time

import click

from kafka_exec.cli.common import echo_table, json_option
from kafka_exec.core.nodes.heartbeat import NodeState, Seen
from kafka_exec.core.overview.times import time_of

COLUMNS = (
    "NAME",
    "STATE",
    "KIND",
    "VERSION",
    "INCARNATION",
    "HOST",
    "PID",
    "SINCE",
    "HEARD",
    "SLOTS",
    "ACTIVE",
    "QUEUES",
    "TASKS",
    "CONTROL-PLANE",
    "FAULTS",
)


@click.command()
@click.option("--task", help="Only nodes that know the task of this name.")
@click.option(
    "--hours",
    type=click.FloatRange(0, 24),
    default=1.0,
    show_default=True,
    help="Only nodes heard in so many hours.",
)
@json_option
@click.pass_context
def nodes(context: click.Context, task: str | None, hours: float, as_json: bool) -> None:
    """List the nodes that send heartbeats, and those that did."""
    from kafka_exec.operations import queues

    now = time.time()
    listed = queues.nodes(context.obj.app, task, hours, now)
    if as_json:
        for seen, state in listed:
            click.echo(json.dumps(queues.node_facts(seen, state, now)))
    else:
        echo_table([COLUMNS, *(_row(seen, state, now) for seen, state in listed)])


def _row(seen: Seen, state: NodeState, now: float) -> tuple[str, ...]:
    from kafka_exec.operations import queues

    beat = seen.beat
    return (
        seen.name,
        state.value,
        queues.kind_of(beat) or "?",
        beat.version or "?",
        beat.incarnation[:8],
        beat.place.partition(" ")[0],
        str(beat.pid),
        time_of(beat.since),
        f"{max(0.0, now - seen.at):.1f} s ago",
        str(beat.slots),
        str(beat.active),
        ",".join(beat.queues),
        str(beat.known),
        "yes" if beat.control else "",
        str(beat.faults),
    )
