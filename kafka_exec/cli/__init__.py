"""`celery kafka …`: the admin command. Every `celery` process imports this package, so its commands import late."""

from __future__ import annotations

import click

from .broker import broker
from .control_plane import control_plane
from .dead import dead
from .executions import executions, remark, show
from .groups import groups
from .nodes import nodes
from .schedule import claims, schedule


@click.group()
def kafka() -> None:
    """Run and look after kafka_exec's Kafka."""


for command in (broker, claims, control_plane, dead, executions, groups, nodes, remark, schedule, show):
    kafka.add_command(command)
