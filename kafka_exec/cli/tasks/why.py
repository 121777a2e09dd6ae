"""``celery kafka why``: one sentence that says why a task does not run, and the facts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from kafka_exec.cli.common import age_of, json_option, printable, result_backend, time_of
from kafka_exec.settings.appconf import broker_home

if TYPE_CHECKING:
    from kafka_exec.kafka.overview.why import FindState

#: The facts that are times.
_TIMES = frozenset({"at", "deadline", "due", "heard", "since"})


@click.command()
@click.argument("task_id")
@json_option
@click.pass_context
def why(context: click.Context, task_id: str, as_json: bool) -> None:
    """Say why a task does not run: a sentence, and the facts.

    It reads Kafka, so it is right also if no worker lives.

    \b
    Example: celery -A shop kafka why 3f0c5a52-8f8e-4b0e-9d5a-0c5a528f8e4b
    """
    from kafka_exec.core.overview.sentences import sentence
    from kafka_exec.kafka.overview.why import why as ask

    space = broker_home(context.obj.app)
    now = time.time()
    answer = ask(space.cluster, space.topics, _find(context), task_id, now)
    said = sentence(answer, lambda at: _when(at, now))
    if as_json:
        click.echo(json.dumps({"schema": 1, "sentence": said, **answer.as_json()}))
        return
    click.echo(printable(said))
    rows = list(_rows(answer.as_json()))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name.ljust(width)}  {printable(value)}")


def _find(context: click.Context) -> FindState | None:
    """The function that finds states; None if the results are not in Kafka."""
    from kafka_exec.errors import ConfigurationError

    try:
        find: FindState = result_backend(context).history
    except ConfigurationError:
        return None
    return find


def _rows(facts: dict[str, Any], of: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{of}{name} ")
        else:
            yield f"{of}{name}", time_of(value) if name in _TIMES else str(value)


def _when(at: float, now: float) -> str:
    distance = f"in {age_of(now, at)}" if at > now else f"{age_of(at, now)} ago"
    return f"{time_of(at)} ({distance})"
