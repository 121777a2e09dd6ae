"""What the commands share: how they tell of errors, and what is printed."""

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

#: The statuses of errors with which a command ends; 1 is any other one, 2 a wrong usage.
UNREACHABLE, INTERRUPTED = 69, 130

#: What takes longer says how far it is, this often, seconds.
PATIENCE = 1.0

#: An error's line has no more characters; ``--verbose`` shows all.
_LONGEST_ERROR = 1000

#: Where a context's ``meta`` says that ``--verbose`` was given.
_VERBOSE = "kafka_exec.verbose"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


class Guarded(click.Group):
    """A group of commands that all have ``--verbose``, and tell of every error in one line with the right status."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_verbose_option())

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        for command in _with_all_below(cmd):
            command.params.append(_verbose_option())
        super().add_command(cmd, name)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        logging.getLogger("kafka_exec").setLevel(logging.CRITICAL)
        with _told():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _told(ctx):
            return super().invoke(ctx)


def _with_all_below(command: click.Command) -> Iterator[click.Command]:
    yield command
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _with_all_below(below)


def _verbose_option() -> click.Option:
    return click.Option(
        ["--verbose"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_be_verbose,
        help="Show details of an error, and the log.",
    )


def _be_verbose(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_VERBOSE] = True
        logging.getLogger("kafka_exec").setLevel(logging.NOTSET)


@contextmanager
def _told(context: click.Context | None = None) -> Iterator[None]:
    """Tells of an error in one line, and ends the process with its status.

    Args:
        context: of the command; it knows whether the user wants to see more.
    """
    try:
        yield
    except (click.exceptions.Exit, BrokenPipeError):
        raise  # Click ends the process
    except (Exception, KeyboardInterrupt) as error:
        if _is_help(error):
            raise
        click.echo(_line(error), err=True)
        if context is not None and context.meta.get(_VERBOSE):
            click.echo(traceback.format_exc(), err=True)
        sys.exit(_status(error))


def _is_help(error: BaseException) -> bool:
    """Tells whether it is Click's way to show the help of a group without a command."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _status(error: BaseException) -> int:
    """The status with which the process ends after an error."""
    from kombu.exceptions import OperationalError

    from kafka_exec.errors import AccessRefused, ConnectionFailed, Forbidden

    if isinstance(error, click.ClickException):
        return error.exit_code
    if _is_interrupt(error):
        return INTERRUPTED
    chain = list(_chain(error))
    if any(isinstance(each, (AccessRefused, Forbidden)) for each in chain):
        return 1
    return UNREACHABLE if any(isinstance(each, (ConnectionFailed, OperationalError)) for each in chain) else 1


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was raised for: Kombu raises its own for those of a transport."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _is_interrupt(error: BaseException) -> bool:
    """Tells whether the user has ended the command; at a question Click makes its own error of that."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, click.Abort) and isinstance(error.__context__, KeyboardInterrupt)
    )


def _line(error: BaseException) -> str:
    """An error in one line for the user."""
    from celery.exceptions import ImproperlyConfigured
    from kombu.exceptions import KombuError

    from kafka_exec.errors import KafkaExecError

    if _is_interrupt(error):
        return "Interrupted"
    if isinstance(error, click.Abort):
        return "Nothing was done"
    if isinstance(error, click.ClickException):
        text = error.format_message()
        if isinstance(error, click.NoSuchOption) and error.option_name in ("-A", "--app", "-b", "--broker"):
            text = f"{error.option_name} stands before kafka: celery {error.option_name} … kafka …"
        elif isinstance(error, click.UsageError) and error.ctx is not None:
            text = f"{text} (see {error.ctx.command_path} --help)"
    elif isinstance(error, (KafkaExecError, KombuError, ImproperlyConfigured)) and str(error):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error} (--verbose shows where)"
    text = printable(" ".join(text.split()))
    return f"Error: {text if len(text) <= _LONGEST_ERROR else text[:_LONGEST_ERROR] + '… (--verbose shows all)'}"


def result_backend(context: click.Context) -> Any:
    """The application's result back end.

    Raises:
        ConfigurationError: it is not kafka-exec.
    """
    from kafka_exec.backend import KafkaBackend
    from kafka_exec.errors import ConfigurationError
    from kafka_exec.settings.appconf import is_our_url

    app = context.obj.app
    chosen = app.backend_cls or app.conf.result_backend
    try:
        backend = app.backend
    except Exception:
        if is_our_url(chosen):
            raise
        backend = None  # one that cannot even be made here, as django-db outside Django
    if isinstance(backend, KafkaBackend):
        return backend
    if not chosen or chosen == "disabled":
        raise ConfigurationError(
            "the application has no kafka-exec:// result backend: name the application with celery -A APP, or its backend "
            "with celery --result-backend URL"
        )
    name = chosen.partition("://")[0] if isinstance(chosen, str) else getattr(chosen, "__name__", str(chosen))
    raise ConfigurationError(f"the results are in {name}, not in Kafka: this command reads those in Kafka only")


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
