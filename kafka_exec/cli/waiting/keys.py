"""``celery kafka keys``: the ordering keys whose tasks wait for one another, as the workers answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from kafka_exec.cli.common import echo_table, json_option
from kafka_exec.settings.appconf import broker_home

if TYPE_CHECKING:
    from celery import Celery

#: The states of a key that waits until an operator unblocks it, or a retry comes.
_BLOCKED = ("retry", "stopped")

COLUMNS = ("KEY", "QUEUE", "STATE", "WAITING", "TASK", "NODE")

#: The command waits so long for the workers' answers, seconds.
_TIMEOUT = 2.0


@click.group(invoke_without_command=True)
@click.option("--blocked", is_flag=True, help="Only keys that wait for a retry, or were stopped by a failure.")
@json_option
@click.pass_context
def keys(context: click.Context, blocked: bool, as_json: bool) -> None:
    """List the ordering keys that have unfinished tasks, unblock one, or skip the task that blocks it."""
    if context.invoked_subcommand is not None:
        return
    found = [each for each in _keys(context.obj.app) if not blocked or each["state"] in _BLOCKED]
    found.sort(key=lambda each: (each["queue"], each["key"]))
    if as_json:
        for each in found:
            click.echo(json.dumps(each))
    else:
        names = [column.lower() for column in COLUMNS]
        echo_table([COLUMNS, *(tuple(str(each[name] or "") for name in names) for each in found)])


def _keys(app: Celery) -> list[dict[str, Any]]:
    """The keys that have unfinished tasks, as the workers answer."""
    broker_home(app)
    answers = app.control.broadcast("ordering_keys", reply=True, timeout=_TIMEOUT) or []
    return [
        {**each, "node": node}
        for answer in answers
        for node, told_by in answer.items()
        if isinstance(told_by, list)
        for each in told_by
    ]


@keys.command()
@click.argument("key")
@click.pass_context
def unblock(context: click.Context, key: str) -> None:
    """Let the tasks of KEY go on that wait for a retry, or because one of them has failed.

    The retry still runs when it is due, but without its place before the other tasks.
    """
    done = _unblock(context.obj.app, key)
    click.echo(f"unblocked {key} in {', '.join(done)}")


@keys.command()
@click.argument("key")
@click.pass_context
def skip(context: click.Context, key: str) -> None:
    """Revoke the task whose retry the other tasks of KEY wait for, and let them go on."""
    app = context.obj.app
    awaited = {each["task"] for each in _keys(app) if each["key"] == key and each["state"] in _BLOCKED}
    if awaited:
        app.control.revoke(list(awaited), reply=True, timeout=_TIMEOUT)
    done = _unblock(app, key)
    click.echo(f"skipped {', '.join(sorted(awaited))} of {key} in {', '.join(done)}")


def _unblock(app: Celery, key: str) -> list[str]:
    """Unblocks a key; returns the queues, with their workers, in which it was blocked.

    Raises:
        ClickException: no worker has unblocked the key.
    """
    broker_home(app)
    arguments = {"key": key}
    answers = app.control.broadcast("unblock_ordering_key", arguments=arguments, reply=True, timeout=_TIMEOUT)
    done = [
        f"{queue} ({node})"
        for answer in answers or []
        for node, told_by in answer.items()
        for queue in told_by.get("ok", ())
    ]
    if not done:
        raise click.ClickException(f"no worker has tasks that wait for the key {key!r}, or none has answered")
    return done
