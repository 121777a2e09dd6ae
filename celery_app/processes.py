"""Processes of the application: ``celery -A celery_app …``, each with a log file, none left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

START_TIMEOUT = 120.0
STOP_TIMEOUT = 60.0

#: What a process that serves says when it does.
ADDRESS = r"http://[\w.]+:\d+"


class Ending:
    """Signals that end this process, as exceptions: all that it has started is ended then."""

    def __init__(self) -> None:
        self._is_held = False
        self._came: BaseException | None = None

    def __call__(self, number: int, frame: object) -> None:
        """Handles a signal."""
        error: BaseException = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        if not self._is_held:
            raise error
        self._came = error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Holds them back until the end of the block: a process that just starts would be known to nobody."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._came is not None:
            raise self._came


#: The handler of signals. Who is the main program installs it.
ending = Ending()


class ProcessError(Exception):
    """A process did not start, stay or stop as it should."""


class Process:
    """A process of ``celery -A APP``.

    Args:
        name: is in messages, and the name of its log file.
        arguments: behind ``-A APP``.
        environment: the variables that it has beside ours.
        app: the application's name.
    """

    def __init__(
        self, name: str, arguments: list[str], environment: Mapping[str, str], logs: Path, app: str = "celery_app"
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is ours to handle, and kill() reaches the processes of a pool.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", app, *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raises if it has ended by itself."""
        if self._process.poll() is not None:
            raise ProcessError(f"{self.name} ended by itself with status {self._process.returncode}")

    def said(self, pattern: str) -> str:
        """The first text of its log that fits a pattern, as soon as there is one."""
        deadline = time.monotonic() + START_TIMEOUT
        while (found := re.search(pattern, self.log.read_text(errors="replace"))) is None:
            self.check()
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name} has not begun after {START_TIMEOUT:.0f} s")
            time.sleep(0.1)
        return found[0]

    def address(self) -> str:
        """The address on which it serves."""
        return self.said(ADDRESS)

    def terminate(self) -> None:
        """Asks it to end (SIGTERM)."""
        self._process.terminate()

    def wait(self) -> None:
        """Waits for its end, which must be well."""
        try:
            status = self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name} was still running {STOP_TIMEOUT:.0f} s after SIGTERM") from None
        if status:
            raise ProcessError(f"{self.name} ended with status {status} after SIGTERM")

    def kill(self) -> None:
        """Ends it with all that it has started, if that has not ended well."""
        if self._process.returncode != 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
