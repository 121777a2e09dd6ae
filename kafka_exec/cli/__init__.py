"""`celery kafka …`: the admin command. Every `celery` process imports this package, so its commands import late."""

from __future__ import annotations

import click

from .broker import broker


@click.group()
def kafka() -> None:
    """Run and look after kafka_exec's Kafka."""


kafka.add_command(broker)
