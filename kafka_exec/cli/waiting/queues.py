"""``celery kafka queues``: what waits in each queue, and for what; and pausing a queue."""

from __future__ import annotations

import getpass
import json
import time
from typing import TYPE_CHECKING

import click

from kafka_exec.cli.common import echo_table, json_option, watch_option, watched
from kafka_exec.cli.tasks.choosing import time_to_come
from kafka_exec.core.overview.times import age_of, time_of
from kafka_exec.settings.appconf import broker_home

if TYPE_CHECKING:
    from kafka_exec.core.overview.queues import QueueReport

COLUMNS = (
    "QUEUE",
    "READY",
    "RUNNING",
    "DELAYED",
    "BLOCKED",
    "PARKED",
    "OLDEST",
    "IN/S",
    "WORKERS",
    "SLOTS",
    "FREE",
    "DEAD",
    "STATE",
)


class QueueCommands(click.Group):
    """The commands on queues. Without one of their names it is ``list``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        word = next((each for each in args if not each.startswith("-")), None)
        is_list = word not in self.commands and args[:1] != ["--help"]
        return super().parse_args(ctx, ["list", *args] if is_list else args)


@click.group(cls=QueueCommands, invoke_without_command=True)
def queues() -> None:
    """Show what waits in the queues, pause one, and resume it.

    \b
    Example: celery -A shop kafka queues --watch 2
    """


@queues.command("list")
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@watch_option
@json_option
@click.pass_context
def list_(context: click.Context, names: tuple[str, ...], watch: float | None, as_json: bool) -> None:
    """Show what waits in the queues, and for what.

    It reads Kafka, so it is right also if no worker lives.

    \b
    Example: celery -A shop kafka queues --watch 2
    """
    from kafka_exec.operations.queues import reports

    space = broker_home(context.obj.app)
    for _ in watched(watch):
        now = time.time()
        found = reports(space, names, now)
        if as_json:
            for each in found:
                click.echo(json.dumps({"schema": 1, **each.facts(now)}))
        elif found:
            echo_table([COLUMNS, *(_row(each, now) for each in found)])
        else:
            click.echo(f"no queues with the prefix {space.topics.prefix}")


_key_option = click.option("--key", metavar="KEY", help="Only its tasks with this ordering key.")


@queues.command()
@click.argument("queue")
@_key_option
@click.option("--reason", default="", metavar="TEXT", help="Why.")
@click.option("--until", type=time_to_come, metavar="TIME", help="It ends by itself: in 30 min, 2 h, or at a date.")
@click.option("--by", default=getpass.getuser, show_default="the user", help="The one who pauses it.")
@json_option
@click.pass_context
def pause(
    context: click.Context, queue: str, key: str | None, reason: str, until: float | None, by: str, as_json: bool
) -> None:
    """Let no task of QUEUE begin, in any worker.

    Tasks that run end. It holds until the queue is resumed, also for workers that are started later.

    \b
    Example: celery -A shop kafka queues pause mail --reason "the server moves" --until 2h
    """
    from kafka_exec.app.pausing import pause_queue

    found = pause_queue(context.obj.app, queue, by=by, key=key, reason=reason, until=until)
    if as_json:
        click.echo(json.dumps({"schema": 1, "queue": queue, "key": key, **found._asdict()}))
    else:
        click.echo(f"paused {_name(queue, key)}{'' if until is None else f' until {time_of(until)}'}")


@queues.command()
@click.argument("queue")
@_key_option
@json_option
@click.pass_context
def resume(context: click.Context, queue: str, key: str | None, as_json: bool) -> None:
    """Let the tasks of QUEUE begin again.

    \b
    Example: celery -A shop kafka queues resume mail
    """
    from kafka_exec.app.pausing import resume_queue

    if not resume_queue(context.obj.app, queue, key=key):
        raise click.ClickException(f"{_name(queue, key)} is not paused: see celery kafka queues {queue} --json")
    if as_json:
        click.echo(json.dumps({"schema": 1, "queue": queue, "key": key}))
    else:
        click.echo(f"resumed {_name(queue, key)}")


def _name(queue: str, key: str | None) -> str:
    return f"queue {queue}" if key is None else f"key {key} of queue {queue}"


def _row(found: QueueReport, now: float) -> tuple[str, ...]:
    counts = found.counts
    return (
        found.name,
        f"{counts.ready}{'+' if counts.uncounted else ''}",
        str(counts.running + counts.lost),
        str(found.delayed),
        str(counts.blocked),
        str(counts.parked),
        age_of(counts.oldest, now),
        f"{found.rate:.1f}",
        str(found.workers),
        str(found.slots),
        str(found.free),
        str(found.dead),
        _state(found),
    )


def _state(found: QueueReport) -> str:
    """The state, with who has paused the queue and why, or the number of its keys that are paused."""
    whole, keys = found.pauses.whole, found.pauses.keys
    if whole is not None:
        end = "" if whole.until is None else f" until {time_of(whole.until)}"
        return f"paused by {whole.by}{end}{f': {whole.reason}' if whole.reason else ''}"
    return f"{found.state.value}, paused keys: {len(keys)}" if keys else found.state.value
