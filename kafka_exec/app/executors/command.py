"""Tasks that a command of the machine runs, without a shell."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from kafka_exec.app.executors.registry import Executor
from kafka_exec.core.worker.retry import RetryPolicy
from kafka_exec.errors import Unrecoverable


class CommandFailed(Exception):
    """The command has ended with another status than 0: see its output."""


class CommandExecutor(Executor):
    """Runs a list of arguments as a process; its output is the result: ``{"status": 0, "output": …}``.

    A task's own arguments fill placeholders of the list, ``{0}`` or ``{name}``, each within its one argument: there is no
    shell. A value that begins with a dash is refused, since the program may take it for an option.

    Args:
        tasks: the list of arguments of each task, whose first one is the program.
        allowed: the programs that may be run, with their full paths.
        timeout: seconds; the process, and all that it has started, is killed then, and the task fails.
        most_output: so many bytes of the end of its output are kept; stdout and stderr come together.
        environment: the variables of its environment; by default those of the worker.
        retrying: the policy after another status than 0; by default the task fails.
        priority: see :class:`Executor`.

    Raises:
        ValueError: a program is not allowed, or has no full path.
    """

    name: ClassVar[str] = "command"

    def __init__(
        self,
        tasks: Mapping[str, Sequence[str]],
        *,
        allowed: Collection[str],
        timeout: float = 300.0,
        most_output: int = 10_000,
        environment: Mapping[str, str] | None = None,
        retrying: RetryPolicy | None = None,
        priority: int = 10,
    ) -> None:
        for task, arguments in tasks.items():
            if isinstance(arguments, str) or not arguments:
                raise ValueError(f"the command of task {task} must be a list of arguments")
            if arguments[0] not in allowed or not os.path.isabs(arguments[0]):
                raise ValueError(
                    f"the program of task {task}, {arguments[0]!r:.100}, must be in `allowed`, with its full path"
                )
        self.tasks = self._commands = {task: tuple(map(str, arguments)) for task, arguments in tasks.items()}
        self.retrying = retrying
        self.priority = priority
        self._timeout = timeout
        self._most_output = most_output
        self._environment = None if environment is None else dict(environment)

    def supports(self, task: str) -> bool:
        """True if the program of a task is on this machine."""
        return task in self.tasks and os.access(self._commands[task][0], os.X_OK)

    def run(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        program, *arguments = self._commands[task.name]
        filled = [_filled(task.name, each, args, kwargs) for each in arguments]
        with tempfile.TemporaryFile() as output:  # a pipe would have to be read into memory, whatever comes
            process = subprocess.Popen(
                [program, *filled],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
            try:
                process.wait(self._timeout)
            except subprocess.TimeoutExpired:
                raise Unrecoverable(f"the command of task {task.name} took more than {self._timeout:g} s") from None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it has left in its group
                process.wait()
            output.seek(max(0, output.seek(0, os.SEEK_END) - self._most_output))
            told = output.read().decode(errors="replace")
        if process.returncode:
            raise CommandFailed(f"the command of task {task.name} has ended with {process.returncode}: {told}")
        return {"status": 0, "output": told}


def _filled(task: str, argument: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """An argument with the task's values in it."""
    for value in (*args, *kwargs.values()):
        if not isinstance(value, (str, int, float)) or str(value).startswith("-") or "\0" in str(value):
            raise Unrecoverable(
                f"task {task}: {value!r:.60} cannot be an argument of a command: it must be a text or a number, without a "
                "dash before it"
            )
    try:
        return argument.format(*args, **kwargs) if "{" in argument else argument
    except (IndexError, KeyError, ValueError, AttributeError) as error:
        raise Unrecoverable(f"task {task}: its arguments do not fill {argument!r:.60}: {error}") from None
