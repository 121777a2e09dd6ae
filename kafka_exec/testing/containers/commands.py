"""Running commands of containers. Celery's own are forked from a process that has imported Celery: they start in no time."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

#: What a worker imports, apart from the application; and this module.
_IMPORTED = (
    __name__,
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.concurrency.prefork",
    "kafka_exec.backend",
    "kafka_exec.transport",
    "kafka_exec.worker",
)

#: With a green pool Celery patches Python's modules, which must not have been used before.
_GREEN = frozenset({"gevent", "eventlet"})


#: The variables that Celery reads when it is imported.
_READ_AT_IMPORT = ("REMAP_SIGTERM",)

#: Linux: the operation of prctl that asks for a signal when the parent ends.
_PR_SET_PDEATHSIG = 1


class RunningCommand(Protocol):
    """A command that runs, or has ended, as the leader of a process group."""

    pid: int

    def poll(self) -> int | None:
        """The status with which it has ended; negative: the signal that has ended it; None: it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end.

        Raises:
            subprocess.TimeoutExpired: it runs on.
        """


def start(command: Sequence[str], folder: Path, env: Mapping[str, str], log: Path) -> RunningCommand:
    """Starts a command in a folder; its output goes to the end of a file."""
    log.touch()
    is_green = not _GREEN.isdisjoint(part for each in command for part in each.split("="))
    is_as_here = all(env.get(name) == os.environ.get(name) for name in _READ_AT_IMPORT)
    if command[:1] == ["celery"] and is_as_here and not is_green:
        return _Forked(command, folder, env, log)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
        )


class _Forked:
    """A command of Celery's in a forked process."""

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str], log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(_IMPORTED))
        self._command = command
        self._process = context.Process(target=_run, args=(list(command), str(folder), dict(env), str(log)))
        self._process.start()
        self.pid = int(self._process.pid or 0)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self._command, timeout or 0)
        return code


def _run(command: list[str], folder: str, env: dict[str, str], log: str) -> None:
    os.setsid()
    if sys.platform == "linux":
        # It ends with the process that it was forked from, which ends with that of the tests, whatever ends that.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for standard in (sys.stdout, sys.stderr):
        os.dup2(output, standard.fileno())
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [folder]
    sys.argv = command
    from celery.__main__ import main

    try:
        main()
    finally:
        # A process of multiprocessing ends without them.
        atexit._run_exitfuncs()
