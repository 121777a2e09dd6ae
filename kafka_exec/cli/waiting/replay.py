"""``celery kafka replay``: sends copies of the tasks that were sent to a queue in some time to another queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kafka_exec.cli.common import confirm, echo_table, json_option, progress, rate_option
from kafka_exec.cli.tasks.choosing import message_where, moment
from kafka_exec.core.overview.choosing.expressions import Predicate
from kafka_exec.core.overview.times import time_of

if TYPE_CHECKING:
    from kafka_exec.errors import NotReplayable
    from kafka_exec.kafka.overview.replays import TaskCopy

COLUMNS = ("SENT", "NAME", "KEY", "ID", "COPY")

#: So many tasks are shown before the question.
_SHOWN = 10


@click.command()
@click.argument("queue")
@click.option("--from", "since", type=moment, metavar="TIME", required=True, help="Sent since then: 2 h, or a date.")
@click.option("--to", "until", type=moment, metavar="TIME", default="0 s", help="Sent before then; now by default.")
@click.option("--to-queue", "target", metavar="SHADOW", required=True, help="The queue that gets the copies.")
@click.option("--name", metavar="GLOB", help="Only tasks of this name.")
@click.option("--key", metavar="GLOB", help="Only tasks of this ordering key.")
@click.option("--where", type=message_where, metavar="EXPR", help="Only tasks for which this is true: args[0] == 42.")
@click.option(
    "--as", "replay", metavar="NAME", default="replay", show_default=True, help="A further name makes further copies."
)
@click.option("--in-place", is_flag=True, help="SHADOW may be QUEUE itself.")
@rate_option
@click.option("--dry-run", is_flag=True, help="Only list them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def replay(
    context: click.Context,
    queue: str,
    since: float,
    until: float,
    target: str,
    name: str | None,
    key: str | None,
    where: Predicate | None,
    replay: str,
    in_place: bool,
    rate: float | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send yesterday's tasks of QUEUE to another queue.

    The copies have new ids and no callbacks. Nothing is sent twice: the same command, run again, does the rest.

    \b
    Example: celery -A shop kafka replay mail --from 1d --to 20h --to-queue shadow --rate 50/s
    """
    from kafka_exec.core.message.copies import Replay
    from kafka_exec.core.overview.choosing.messages import MessageFilter
    from kafka_exec.operations.replays import copy_facts, replayer

    if queue == target and not in_place:
        raise click.UsageError(f"{queue} itself would get the copies: --in-place allows it")
    chosen = MessageFilter(name, key, where)
    found = replayer(context.obj.app, queue, Replay(replay, target), chosen, since, until, in_place=in_place)
    shown: list[TaskCopy] = []
    refused: list[NotReplayable] = []
    count = 0
    for copy in found.copies(progress(), refused.append):
        count += 1
        if dry_run and as_json:
            click.echo(json.dumps({"schema": 1, **copy_facts(copy)}))
        elif dry_run or len(shown) < _SHOWN:
            shown.append(copy)
    if not as_json and shown:
        echo_table([COLUMNS, *map(_row, shown)])
    if refused:
        click.echo(f"{len(refused)} cannot be copied, such as: {refused[0]}", err=True)
    if dry_run or not count:
        click.echo(f"{count} copies would be sent" if count else "no tasks are chosen that were not copied", err=True)
        return
    if count > len(shown) and not as_json:
        click.echo(f"and {count - len(shown)} more")
    confirm(f"Send {count} copies to {target}?", yes)
    say = progress("Sending")
    sent = found.send(rate=rate, on_progress=lambda sent: say(min(sent, count), count))
    click.echo(
        json.dumps({"schema": 1, "queue": target, "sent": sent}) if as_json else f"sent {sent} copies to {target}"
    )


def _row(copy: TaskCopy) -> tuple[str, ...]:
    from kafka_exec.operations.replays import copy_facts

    facts = copy_facts(copy)
    return (time_of(copy.at), *(str(facts[name] or "") for name in ("name", "key", "id", "copy")))
