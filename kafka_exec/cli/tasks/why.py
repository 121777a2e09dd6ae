"""``celery kafka why``: one sentence that says why a task does not run, and the facts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import click

from kafka_exec.cli.common import json_option, printable
from kafka_exec.core.overview.times import time_of, when

#: The facts that are times.
_TIMES = frozenset({"at", "deadline", "due", "heard", "since"})


@click.command()
@click.argument("task_id")
@json_option
@click.pass_context
def why(context: click.Context, task_id: str, as_json: bool) -> None:
    """Say why a task does not run.

    It prints a sentence, and the facts. It reads Kafka, so it is right also if no worker lives.

    \b
    Example: celery -A shop kafka why 3f0c5a52-8f8e-4b0e-9d5a-0c5a528f8e4b
    """
    from kafka_exec.core.overview.sentences import sentence
    from kafka_exec.operations.tasks import reason

    now = time.time()
    answer = reason(context.obj.app, task_id, now)
    said = sentence(answer, lambda at: when(at, now))
    if as_json:
        click.echo(json.dumps({"schema": 1, "sentence": said, **answer.as_json()}))
        return
    click.echo(printable(said))
    rows = list(_rows(answer.as_json()))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name.ljust(width)}  {printable(value)}")


def _rows(facts: dict[str, Any], of: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{of}{name} ")
        else:
            yield f"{of}{name}", time_of(value) if name in _TIMES else str(value)
