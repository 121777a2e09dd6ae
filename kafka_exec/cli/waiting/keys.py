"""``celery kafka keys``: the ordering keys whose tasks wait for one another, as the workers answer."""

from __future__ import annotations

import json

import click

from kafka_exec.cli.common import echo_table, json_option

COLUMNS = ("KEY", "QUEUE", "STATE", "WAITING", "TASK", "NODE")


@click.group(invoke_without_command=True)
@click.option("--blocked", is_flag=True, help="Only keys that wait for a retry, or were stopped by a failure.")
@json_option
@click.pass_context
def keys(context: click.Context, blocked: bool, as_json: bool) -> None:
    """List the ordering keys that have unfinished tasks, unblock one, or skip the task that blocks it."""
    from kafka_exec.operations import keys as operations

    if context.invoked_subcommand is not None:
        return
    found = operations.keys(context.obj.app, blocked=blocked)
    if as_json:
        for each in found:
            click.echo(json.dumps(each))
    else:
        names = [column.lower() for column in COLUMNS]
        echo_table([COLUMNS, *(tuple(str(each[name] or "") for name in names) for each in found)])


@keys.command()
@click.argument("key")
@click.pass_context
def unblock(context: click.Context, key: str) -> None:
    """Let the tasks of KEY go on that wait for a retry, or because one of them has failed.

    The retry still runs when it is due, but without its place before the other tasks.
    """
    from kafka_exec.operations import keys as operations

    click.echo(f"unblocked {key} in {', '.join(operations.unblock(context.obj.app, key))}")


@keys.command()
@click.argument("key")
@click.pass_context
def skip(context: click.Context, key: str) -> None:
    """Revoke the task whose retry the other tasks of KEY wait for, and let them go on."""
    from kafka_exec.operations import keys as operations

    skipped, done = operations.skip(context.obj.app, key)
    click.echo(f"skipped {', '.join(skipped)} of {key} in {', '.join(done)}")
