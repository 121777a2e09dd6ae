"""``celery kafka schedule``: the periodic entries, their claims and slots, and changes to them."""

from __future__ import annotations

import json
from typing import Any

import click

from kafka_exec.cli.common import echo_table, json_option
from kafka_exec.core.overview.times import time_of

COLUMNS = ("NAME", "TASK", "SCHEDULE", "SOURCE", "STATE", "HOLDER", "LAST", "NEXT", "RUNS", "MISSED")


def _tasks(context: click.Context) -> Any:
    from kafka_exec.beat.periodic import PeriodicTasks

    return PeriodicTasks(context.obj.app)


@click.group()
def schedule() -> None:
    """Look at the periodic entries, and change them."""


@schedule.command("list")
@json_option
@click.pass_context
def list_(context: click.Context, as_json: bool) -> None:
    """List the periodic entries, with their holders, the last slot that was fired, and the next one."""
    tasks = _tasks(context)
    found = [each.facts() for each in tasks.all()]
    if as_json:
        for facts in found:
            click.echo(json.dumps(facts))
    else:
        echo_table([COLUMNS, *(_row(facts) for facts in found)])
    if not tasks.beats():
        click.echo(
            "No beat is alive: nothing is fired until one is started with celery -A APP beat -S kafka-exec", err=True
        )


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    return (
        facts["name"],
        str(facts["task"]),
        str(facts["schedule"]),
        str(facts["source"]),
        facts["state"],
        facts["holder"] or "",
        time_of(facts["last"]),
        time_of(facts["next"]),
        str(facts["runs"]),
        str(facts["missed"]),
    )


@schedule.command()
@click.argument("name")
@json_option
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show all that is known of a periodic entry."""
    found = _tasks(context).one(name).facts()
    if as_json:
        click.echo(json.dumps(found))
        return
    for key, value in found.items():
        if value is not None:
            text = time_of(value) if key in ("last", "fired", "next") else value
            click.echo(f"{key:12} {text if isinstance(text, str) else json.dumps(text)}")


@schedule.command()
@click.argument("name")
@click.argument("task")
@click.argument("when")
@click.option("--args", "arguments", default="[]", help="Positional arguments, a JSON list.")
@click.option("--kwargs", "named", default="{}", help="Named arguments, a JSON object.")
@click.option("--options", default="{}", help="Options of apply_async, a JSON object.")
@click.option("--catch-up", type=click.Choice(["skip", "one", "all"]), help="What becomes of missed slots.")
@click.option("--max-running", type=int, help="How many runs may be under way at a time.")
@click.option("--max-duration", type=float, help="After so many seconds a run is stopped.")
@click.option(
    "--on-node", is_flag=True, default=None, help="The beat or worker that holds the entry runs its task itself."
)
@click.option(
    "--overlap",
    type=click.Choice(["queue", "skip", "replace"]),
    help="With --on-node: what becomes of a slot during a run.",
)
@click.option("--after-end", is_flag=True, default=None, help="With --on-node: the period begins when a run ends.")
@click.option("--label", "labels", multiple=True, help="Only beats with this label fire it.")
@click.pass_context
def add(
    context: click.Context,
    /,
    name: str,
    task: str,
    when: str,
    arguments: str,
    named: str,
    options: str,
    **policy: Any,
) -> None:
    """Add the periodic entry NAME: TASK, at WHEN ("30", "every 5 m", "0 4 * * mon", "solar sunset 52.5 13.4")."""
    texts = {"args": (arguments, list), "kwargs": (named, dict), "options": (options, dict)}
    given = {key: _json(key, text, kind) for key, (text, kind) in texts.items()}
    said = {key: value for key, value in policy.items() if value not in (None, ())}
    tasks = _tasks(context)
    tasks.add(name, task, when, **given, **said)
    click.echo(f"added {name}")
    if not policy["on_node"] and not task.startswith("celery.") and not tasks.knows(task):
        click.echo(f"No worker that is alive knows the task {task}: its runs wait until one does", err=True)


def _json(name: str, text: str, kind: type) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        raise click.UsageError(f"--{name} is not JSON: {text}") from None
    if not isinstance(found, kind):
        raise click.UsageError(f"--{name} must be a JSON {'list' if kind is list else 'object'}: {text}")
    return found


def _verb(verb: str, done: str, meaning: str) -> None:
    @schedule.command(verb, help=meaning)
    @click.argument("name")
    @click.pass_context
    def act(context: click.Context, name: str) -> None:
        getattr(_tasks(context), verb.replace("-", "_"))(name)
        click.echo(f"{done} {name}")


_verb("pause", "paused", "Stop firing the periodic entry NAME, until it is resumed.")
_verb("resume", "resumed", "Fire NAME again; slots that were due meanwhile are left out.")
_verb("remove", "removed", "Remove NAME; an entry of the configuration comes back with the next beat that has it.")
_verb("run-now", "asked for a run of", "Fire NAME once, at once.")


CLAIMS = ("ENTRY", "STATE", "HOLDER", "INCARNATION", "EPOCH", "LAST SLOT", "FIRED", "RUNS", "OF THIS HOLDER")


@click.command()
@click.option("--table", "table", is_flag=True, help="Print the table of states instead.")
@json_option
@click.pass_context
def claims(context: click.Context, table: bool, as_json: bool) -> None:
    """List the holder of each periodic entry, by the log of claims."""
    from kafka_exec.core.beat.claim import document

    if table:
        click.echo(document(), nl=False)
        return
    from kafka_exec.core.cluster.topology import sync_topic
    from kafka_exec.kafka.beat.synclog import present
    from kafka_exec.settings.appconf import broker_home

    space = broker_home(context.obj.app)
    log = present(space.cluster, sync_topic(space.topics))
    rows = []
    for entry, found in sorted(log.all().items()):
        state = "handling" if found.handling else "held" if found.holder else "free"
        if as_json:
            facts = {
                "state": state,
                "holder": found.name if found.holder else None,
                "incarnation": found.holder or None,
                "epoch": found.epoch,
                "reference": found.reference,
                "slot": found.slot,
                "fired": found.fired,
                "runs": found.runs,
                "turns": found.turns,
                "definition": found.definition,
            }
            click.echo(json.dumps({"entry": entry, **facts}))
        holder = (found.name, found.holder[:8]) if found.holder else ("", "")
        numbers = (str(found.runs), str(found.turns))
        rows.append((entry, state, *holder, str(found.epoch), time_of(found.slot), time_of(found.fired), *numbers))
    if not as_json:
        echo_table([CLAIMS, *rows])
