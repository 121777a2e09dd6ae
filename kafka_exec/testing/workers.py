"""Workers of a test: in a thread of this process, or in a process of their own."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from celery import Celery
from celery.contrib.testing.worker import start_worker

#: A worker is ready, and ends, within so many seconds.
PATIENCE = 60.0


class WorkerFailed(Exception):
    """A worker process did not become ready, or did not end well. The message has its output."""


class WorkerProcess:
    """A worker in a process group of its own. It is ready when it is made.

    Args:
        name: the app, as in ``celery -A``.
        config: settings for the app.
        options: of ``celery worker``.
        waits: the file for waits that do not take place; None: they do.

    Raises:
        WorkerFailed: it does not become ready.
    """

    def __init__(
        self, name: str, config: Mapping[str, Any], folder: Path, options: Iterable[str], waits: Path | None
    ) -> None:
        self.hostname = f"{uuid.uuid4().hex[:8]}@test"
        self.log = folder / f"{self.hostname}.log"
        ready, tells = os.pipe()
        order = {"app": name, "config": dict(config), "waits": str(waits or ""), "tells": tells}
        arguments = ["-m", "kafka_exec.testing.worker_process", json.dumps(order), "-n", self.hostname, *options]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[tells],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        os.close(tells)
        try:
            self._await(ready)
        except BaseException:
            self.kill()
            raise
        finally:
            os.close(ready)

    @property
    def output(self) -> str:
        """All that it has written."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _await(self, ready: int) -> None:
        """Waits for its word that it is ready; the pipe ends with the process."""
        with selectors.DefaultSelector() as selector:
            selector.register(ready, selectors.EVENT_READ)
            if not selector.select(PATIENCE) or not os.read(ready, 1):
                raise WorkerFailed(f"the worker process has not become ready:\n{self.output}")

    def stop(self) -> None:
        """A warm shutdown: what runs ends.

        Raises:
            WorkerFailed: it has not ended in time, or with an error.
        """
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        if code:
            raise WorkerFailed(f"the worker process has ended with status {code}:\n{self.output}")
        if code is None:
            raise WorkerFailed(f"the worker process has not ended within {PATIENCE:g} s:\n{self.output}")

    def kill(self) -> None:
        """SIGKILL for it and its pool, as a crash would end them."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


class Workers:
    """Starts workers of an app, and ends those that are left when the test ends.

    Args:
        app: the app.
        name: the app as in ``celery -A``; None: other processes cannot import it.
        config: the settings by which the app was pointed to the test's broker.
        folder: for the output of processes.
        waits: the file for waits that do not take place; None: they do.
    """

    def __init__(
        self, app: Celery, name: str | None, config: Mapping[str, Any], folder: Path, waits: Path | None
    ) -> None:
        self._app = app
        self._name = name
        self._config = config
        self._folder = folder
        self._waits = waits
        self._ends = ExitStack()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: Any) -> None:
        self._ends.close()

    def thread(self, *, pool: str = "solo", concurrency: int = 1, **options: Any) -> Any:
        """Starts a worker in a thread of this process; Celery's worker object. One at a time.

        Args:
            pool: ``"solo"`` runs one task after another, ``"threads"`` as many at once as ``concurrency`` says.
            options: of Celery's ``WorkController``, such as ``queues="orders,mails"``.
        """
        options = {"shutdown_timeout": PATIENCE, "perform_ping_check": False, **options}
        return self._ends.enter_context(start_worker(self._app, pool=pool, concurrency=concurrency, **options))

    def process(self, *options: str) -> WorkerProcess:
        """Starts ``celery -A APP worker`` with these options, in a process. Any number of them.

        Raises:
            ValueError: other processes cannot import the app.
            WorkerFailed: it does not become ready.
        """
        if self._name is None:
            raise ValueError("a worker process imports the app: name it as kafka_app in the configuration of pytest")
        made = WorkerProcess(self._name, self._config, self._folder, options, self._waits)
        self._ends.callback(_end, made)
        return made


def _end(worker: WorkerProcess) -> None:
    """Ends a worker when its test has ended. One that the test has ended itself, or killed, is left alone."""
    if worker.process.poll() is None:
        worker.stop()
