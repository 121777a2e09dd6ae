"""``celery kafka nodes``: the workers and beats that exist, by their heartbeats."""

from __future__ import annotations

import json
import time

import click

from kafka_exec.cli.common import echo_table, json_option, time_of
from kafka_exec.core.nodes.heartbeat import Heartbeat, NodeState, Seen, roll
from kafka_exec.settings.appconf import broker_home

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
    from kafka_exec.core.cluster.topology import nodes_topic
    from kafka_exec.kafka.nodes.node import heard

    space = broker_home(context.obj.app)
    now = time.time()
    beats = heard(space.cluster, nodes_topic(space.topics), now - hours * 3600)
    listed = [
        (seen, state)
        for seen, state in roll(beats, now=now, period=space.settings.heartbeat)
        if task is None or task in (seen.beat.tasks or ())
    ]
    if as_json:
        for seen, state in listed:
            click.echo(json.dumps(_facts(seen, state, now)))
    else:
        echo_table([COLUMNS, *(_row(seen, state, now) for seen, state in listed)])


def _facts(seen: Seen, state: NodeState, now: float) -> dict[str, object]:
    beat = seen.beat
    return {
        "kind": _kind(beat),
        "version": beat.version or None,
        "name": seen.name,
        "state": state.value,
        "incarnation": beat.incarnation,
        "place": beat.place,
        "pid": beat.pid,
        "since": beat.since,
        "heard": seen.at,
        "age": max(0.0, now - seen.at),
        "control_plane": beat.control,
        "slots": beat.slots,
        "active": beat.active,
        "queues": beat.queues,
        "known": beat.known,
        "tasks": beat.tasks,
        "faults": beat.faults,
    }


def _row(seen: Seen, state: NodeState, now: float) -> tuple[str, ...]:
    beat = seen.beat
    return (
        seen.name,
        state.value,
        _kind(beat) or "?",
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


def _kind(beat: Heartbeat) -> str | None:
    """The kind of a node. Nodes of older versions do not send it, but their beats and workers can be told apart."""
    return beat.kind or ("beat" if beat.beat else "worker" if beat.slots else None)
