"""``celery kafka dead …``: commands to look at dead letters, to replay and to delete them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from kafka_exec.app.letters import dead_letters
from kafka_exec.cli.common import confirm, echo_table, json_option, printable, progress, rate_option
from kafka_exec.core.message.dead import Letter, LetterAddress, Order, as_text
from kafka_exec.core.overview.times import time_of

if TYPE_CHECKING:
    from kafka_exec.errors import NotReplayable
    from kafka_exec.kafka.queue.dead import DeadLetters

COLUMNS = ("QUEUE", "LETTER", "WHEN", "REASON", "TASK", "ID", "REPLAYED", "ERROR")

#: A table shows so many characters of an error.
_LONGEST_ERROR = 60

#: So many bytes are shown of a body that is no JSON.
_MOST_SHOWN = 200


def _address(value: str) -> LetterAddress:
    try:
        return LetterAddress.parse(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no address of a letter, such as 3:17") from None


def _json_list(value: str) -> list[Any]:
    found: list[Any] = _of_json(value, list, "list")
    return found


def _json_object(value: str) -> dict[str, Any]:
    found: dict[str, Any] = _of_json(value, dict, "object")
    return found


def _of_json(value: str, kind: type, name: str) -> Any:
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, kind):
        raise click.BadParameter(f"{value!r} is no JSON {name}")
    return found


_reason = click.option("--reason", help="Only letters with this reason.")
_task = click.option("--task", help="Only tasks of this name.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group()
def dead() -> None:
    """Look at dead letters, replay or delete them."""


def _letters(context: click.Context, queue: str) -> DeadLetters:
    return dead_letters(context.obj.app, queue)


@dead.command("list")
@click.argument("queue", required=False)
@_reason
@_task
@click.option("--all-letters", is_flag=True, help="Also letters that were replayed.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="So many, the latest.")
@json_option
@click.pass_context
def list_letters(
    context: click.Context,
    queue: str | None,
    reason: str | None,
    task: str | None,
    all_letters: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List the dead letters of a queue, or of all queues, the latest first."""
    from kafka_exec.operations.letters import latest

    order = Order(reason=reason, task=task)
    found = latest(
        context.obj.app,
        queue,
        order,
        limit,
        also_replayed=all_letters,
        progress=lambda queue: progress(f"Reading {queue}"),
    )
    if as_json:
        for facts in found.facts():
            click.echo(json.dumps(facts))
    else:
        echo_table([COLUMNS, *(_row(letter, name) for letter, name in found.letters)])
    if found.matching > len(found.letters):
        click.echo(f"{found.matching - len(found.letters)} more: --limit shows them", err=True)
    if found.replayed:
        click.echo(f"{found.replayed} were replayed: --all-letters shows them", err=True)


def _row(letter: Letter, queue: str) -> tuple[str, ...]:
    error = letter.error
    return (
        queue,
        str(letter.address),
        time_of(letter.at),
        letter.reason,
        letter.task,
        letter.id,
        "yes" if letter.replayed else "",
        error if len(error) <= _LONGEST_ERROR else f"{error[:_LONGEST_ERROR]}…",
    )


@dead.command()
@click.argument("queue")
@click.argument("address", type=_address, metavar="PARTITION:OFFSET")
@json_option
@click.pass_context
def show(context: click.Context, queue: str, address: LetterAddress, as_json: bool) -> None:
    """Show a dead letter: all its headers, its body, and where it came from."""
    from kafka_exec.operations.letters import details

    letter = _letters(context, queue).find(address)
    click.echo(json.dumps(details(letter, queue)) if as_json else "\n".join(_details(letter, queue)))


def _details(letter: Letter, queue: str) -> Iterator[str]:
    """A line for each fact, then the headers, then the body."""
    origin = letter.origin
    facts = {
        "queue": queue,
        "letter": str(letter.address),
        "when": time_of(letter.at),
        "reason": letter.reason,
        "error": letter.error,
        "from": f"{origin.topic}, partition {origin.partition}, offset {origin.offset}"
        if origin
        else "it does not say",
        "task": letter.task,
        "id": letter.id,
        "replayed": "yes" if letter.replayed else "no",
        "key": "none" if letter.key is None else as_text(letter.key),
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        yield f"{name.ljust(width)}  {printable(value)}".rstrip()
    for name, header in letter.headers:
        yield printable(f"header {name}: {as_text(header)}")
    try:
        yield f"body: {json.dumps(letter.body, indent=2)}"
    except ValueError:
        if letter.value is None:
            yield "body: none"
        else:
            yield f"body: {len(letter.value)} bytes that begin with {letter.value[:_MOST_SHOWN]!r}"


@dead.command()
@click.argument("queue")
@click.argument("addresses", nargs=-1, type=_address, metavar="[PARTITION:OFFSET]...")
@_reason
@_task
@click.option("--all", "of_all", is_flag=True, help="All letters that the other options leave.")
@click.option("--again", is_flag=True, help="Also letters that were replayed already, if they are named.")
@click.option("--args", type=_json_list, metavar="JSON", help="Other positional arguments for the task.")
@click.option("--kwargs", type=_json_object, metavar="JSON", help="Other keyword arguments for the task.")
@rate_option
@click.option("--dry-run", is_flag=True, help="Only list what would be replayed.")
@_yes
@click.pass_context
def replay(
    context: click.Context,
    queue: str,
    addresses: tuple[LetterAddress, ...],
    reason: str | None,
    task: str | None,
    of_all: bool,
    again: bool,
    args: list[Any] | None,
    kwargs: dict[str, Any] | None,
    rate: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Publish dead letters again: same topic, key, headers and body, so the same task id in the same order.

    Each is replayed once: run again after an interruption, the command does the rest.
    """
    if not (addresses or reason or task or of_all):
        raise click.UsageError("name the letters, or choose them by --reason, --task or --all")
    if again and not addresses:
        raise click.UsageError("--again is for letters that are named")
    order = Order(frozenset(addresses), reason, task, again, args, kwargs)
    refusals: list[NotReplayable] = []
    refused = 0

    def refuse(refusal: NotReplayable) -> None:
        nonlocal refused
        refused += 1
        refusals[:] = refusals or [refusal]

    letters = _letters(context, queue)
    count, latest = 0, None
    for letter in letters.chosen(order, progress(), refuse):
        count, latest = count + 1, letter.address
        if dry_run and letter.origin is not None:
            click.echo(printable(f"{letter.address} to {letter.origin.topic}  {letter.task} {letter.id}".rstrip()))
    if refusals:
        click.echo(f"{refused} cannot be replayed, such as: {refusals[0]}", err=True)
    if count > 1 and not of_all and (args, kwargs) != (None, None):
        raise click.UsageError(f"{count} letters would get the same arguments: name one, or add --all")
    if dry_run or not count:
        click.echo(f"{count} letters would be replayed" if dry_run else "Nothing to replay", err=True)
        return
    if latest is not None and count == 1:
        order = replace(order, addresses=(latest,))  # letters that have come meanwhile are left out
    confirm(f"Replay {count} letters of {queue}?", yes)
    say = progress("Replaying")
    done = letters.replay(order, rate=rate, on_progress=lambda replayed: say(min(replayed, count), count))
    click.echo(f"{done} replayed")


@dead.command()
@click.argument("queue")
@click.option("--before", type=click.DateTime(), help="Only letters older than this local time.")
@_yes
@click.pass_context
def purge(context: click.Context, queue: str, before: datetime | None, yes: bool) -> None:
    """Delete dead letters for good: all, or the oldest.

    Kafka deletes from the beginning of a partition up to an offset, so there is no choice by reason or task.
    """
    letters = _letters(context, queue)
    doomed = letters.older(None if before is None else before.timestamp(), progress())
    if doomed.letters:
        confirm(f"Delete {doomed.letters} letters of {queue}?", yes)
    letters.purge(doomed)
    click.echo(f"{doomed.letters} deleted")
