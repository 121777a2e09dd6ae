"""What the commands on an application share."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

#: What takes longer says how far it is, this often, seconds.
PATIENCE = 1.0

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
verbose_option = click.option("--verbose", is_flag=True, help="Show details of an error.")


def result_backend(context: click.Context) -> Any:
    """The application's result back end.

    Raises:
        ConfigurationError: it is not kafka-exec.
    """
    from kafka_exec.backend import KafkaBackend
    from kafka_exec.errors import ConfigurationError

    backend = context.obj.app.backend
    if not isinstance(backend, KafkaBackend):
        raise ConfigurationError(
            "the application has no kafka-exec:// result backend: name the application with celery -A APP, "
            "or its backend with celery --result-backend URL"
        )
    return backend


@contextmanager
def told(verbose: bool) -> Iterator[None]:
    """Tells of an error in one line and ends the process with status 1."""
    from kombu.exceptions import OperationalError

    from kafka_exec.errors import KafkaExecError

    if not verbose:
        logging.getLogger("kafka_exec").setLevel(logging.CRITICAL)
    try:
        yield
    except (KafkaExecError, OperationalError) as error:
        click.echo(f"Error: {error}", err=True)
        if verbose:
            click.echo(traceback.format_exc(), err=True)
        sys.exit(1)


def progress(what: str = "Reading") -> Callable[[int, int], None]:
    """Says on stderr how much is done of what takes long."""
    said = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PATIENCE:
            said = time.monotonic()
            click.echo(f"{what}: {done / total:.0%}", err=True)

    return say


def echo_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows with their columns aligned."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """A text in one line that changes nothing on a terminal: all else is shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def time_of(at: float | None) -> str:
    """A time, epoch seconds, for people in this time zone."""
    return "" if at is None else datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")


def confirm(question: str, yes: bool) -> None:
    """Asks on the terminal, unless the user has said yes beforehand; ends the process if the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask on: --yes answers it")
    click.confirm(question, abort=True, err=True)
