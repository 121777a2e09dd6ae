"""`celery kafka groups`: the ordering keys whose tasks wait for one another, as their workers tell."""

from __future__ import annotations

import json

import click

from kafka_exec.appconf import broker_home
from kafka_exec.cli.common import echo_table, json_option, told, verbose_option

COLUMNS = ("KEY", "QUEUE", "STATE", "WAITING", "TASK", "NODE")

#: How long the workers have for their answers, seconds.
_TIMEOUT = 2.0


@click.group(invoke_without_command=True)
@click.option("--blocked", is_flag=True, help="Only keys that wait for a retry, or were stopped by a failure.")
@json_option
@verbose_option
@click.pass_context
def groups(context: click.Context, blocked: bool, as_json: bool, verbose: bool) -> None:
    """List the ordering keys that have unfinished tasks, or unblock one."""
    if context.invoked_subcommand is not None:
        return
    with told(verbose):
        broker_home(context.obj.app)
        answers = context.obj.app.control.broadcast("ordering_keys", reply=True, timeout=_TIMEOUT) or []
        found = [
            {**each, "node": node}
            for answer in answers
            for node, told_by in answer.items()
            if isinstance(told_by, list)
            for each in told_by
            if not blocked or each["state"] in ("retry", "stopped")
        ]
    found.sort(key=lambda each: (each["queue"], each["key"]))
    if as_json:
        for each in found:
            click.echo(json.dumps(each))
    else:
        names = [column.lower() for column in COLUMNS]
        echo_table([COLUMNS, *(tuple(str(each[name] or "") for name in names) for each in found)])


@groups.command()
@click.argument("key")
@verbose_option
@click.pass_context
def unblock(context: click.Context, key: str, verbose: bool) -> None:
    """Let the tasks of KEY go on that wait for a retry, or since one of them has failed.

    A retry that was waited for runs when it is due, with no place of its own any more.
    """
    with told(verbose):
        broker_home(context.obj.app)
        arguments = {"key": key}
        answers = context.obj.app.control.broadcast(
            "unblock_ordering_key", arguments=arguments, reply=True, timeout=_TIMEOUT
        )
        done = [
            f"{queue} ({node})"
            for answer in answers or []
            for node, told_by in answer.items()
            for queue in told_by.get("ok", ())
        ]
        if not done:
            raise click.ClickException(f"no worker has tasks that wait for the key {key!r}, or none has answered")
    click.echo(f"unblocked {key} in {', '.join(done)}")
