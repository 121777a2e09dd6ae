"""``celery kafka acls``: the access rules that publishers, workers, beats and operators need."""

from __future__ import annotations

import click

from kafka_exec.core.cluster.rights import ROLES, commands
from kafka_exec.settings.appconf import prefix_of


@click.command()
@click.option("--role", "roles", multiple=True, type=click.Choice(list(ROLES)), help="For these; for all by default.")
@click.option("--principal", default="User:NAME", show_default=True, help="Who gets the rights.")
@click.pass_context
def acls(context: click.Context, roles: tuple[str, ...], principal: str) -> None:
    """Print the kafka-acls lines for publishers, workers, beats, operators.

    It does not connect. Put your broker in the place of SERVER, and the file with your credentials behind it.

    \b
    Example: celery -A shop kafka acls --role worker --principal User:worker
    """
    for line in commands(prefix_of(context.obj.app), principal, roles or ROLES):
        click.echo(line)
