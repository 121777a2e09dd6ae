"""The parts that all commands share: their errors in one line, tables, progress and questions."""

from __future__ import annotations

import logging
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

#: The exit statuses of a command after these errors; 1: any other error, 2: a wrong usage.
UNREACHABLE, INTERRUPTED = 69, 130

#: The exit status of a check that has found something wrong.
FOUND_WRONG = 3

#: A command that takes longer prints its progress this often, seconds.
PATIENCE = 1.0

#: An error's line is cut to so many characters; ``--verbose`` shows all.
_LONGEST_ERROR = 1000

#: The key of a context's ``meta`` by which it knows that ``--verbose`` was given.
_VERBOSE = "kafka_exec.verbose"


def a_second(value: str) -> float:
    """The number a second of a rate such as ``100/s``, ``10/m`` or ``5/h``."""
    from celery.utils.time import rate

    try:
        found = float(rate(value))
    except (ValueError, KeyError):
        found = 0.0
    if not 0 < found < math.inf:
        raise click.BadParameter(f"{value!r} is no rate, such as 100/s, 10/m or 5/h")
    return found


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
watch_option = click.option(
    "--watch",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="Show it again and again, until Ctrl-C.",
)
rate_option = click.option(
    "--rate", type=a_second, metavar="N/s", help="So many a second at most; N/m, N/h: a minute, an hour."
)


class Guarded(click.Group):
    """A group of commands that all have ``--verbose``, and print every error in one line and end with the right status."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_verbose_option())

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        for command in _with_all_below(cmd):
            command.params.append(_verbose_option())
        super().add_command(cmd, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, without former names, under which a command stands beside its own."""
        return [name for name in super().list_commands(ctx) if self.commands[name].name == name]

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
    """Prints an error of the block in one line, and ends the process with its status.

    Args:
        context: the command's context, which has ``--verbose``.
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
    """True if the error is the one by which Click shows the help of a group without a command."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _status(error: BaseException) -> int:
    """The exit status of the process after an error."""
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
    """An error and its causes: Kombu raises errors of its own for those of a transport."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _is_interrupt(error: BaseException) -> bool:
    """True if the user has interrupted the command; at a question Click raises an error of its own for that."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, click.Abort) and isinstance(error.__context__, KeyboardInterrupt)
    )


def _line(error: BaseException) -> str:
    """An error as one line for the user."""
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


def progress(what: str = "Reading") -> Callable[[int, int], None]:
    """A function that prints on stderr how much of a long step is done."""
    said = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PATIENCE:
            said = time.monotonic()
            click.echo(f"{what}: {done / total:.0%}", err=True)

    return say


def echo_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints the rows of a table with their columns aligned."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """A text in one line that controls nothing on a terminal: characters that are not printable are shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def watched(every: float | None) -> Iterator[None]:
    """The turns of a command that shows something once, or again after so many seconds, until Ctrl-C."""
    while True:
        if every is not None and sys.stdout.isatty():
            click.clear()
        yield
        if every is None:
            return
        time.sleep(every)


def confirm(question: str, yes: bool) -> None:
    """Asks a question on the terminal, unless the user has said yes beforehand; ends the process if the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask on: --yes answers it")
    click.confirm(question, abort=True, err=True)
