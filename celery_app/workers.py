"""Worker processes of the application, started and stopped by the demonstration."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from celery_app.app import app
from celery_app.processes import START_TIMEOUT, Process, ProcessError, ending


class Workers:
    """``count`` worker processes on one broker; a context manager that leaves none behind.

    Args:
        environment: the variables that they have beside ours.
        name: the application's name.
    """

    def __init__(
        self,
        count: int,
        concurrency: int,
        broker_url: str,
        logs: Path,
        environment: Mapping[str, str] | None = None,
        name: str = "celery_app",
    ) -> None:
        # The process id keeps the names apart from those of another demonstration on the same broker.
        self.nodes = [f"demo{number}@pid{os.getpid()}" for number in range(1, count + 1)]
        self._logs = logs
        self._name = name
        self._concurrency = concurrency
        self._environment = {**(environment or {}), "EXAMPLE_BROKER_URL": broker_url}
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> Workers:
        try:
            for node in self.nodes:
                self._start(node)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            # A worker that died is the reason of whatever failed after it, so its death is what is reported.
            if isinstance(error, Exception) and not isinstance(error, ProcessError):
                self.check()
        finally:
            self.kill()

    def _start(self, node: str) -> None:
        arguments = ["worker", "--hostname", node, "--concurrency", str(self._concurrency)]
        # One task at a time is reserved per process, so that the batches spread over the workers evenly.
        arguments += ["--prefetch-multiplier", "1", "--task-events", "--loglevel", "INFO"]
        with ending.held():
            self._processes[node] = Process(node, arguments, self._environment, self._logs, self._name)

    def wait_until_ready(self) -> None:
        """Return when every worker has answered a ping."""
        deadline = time.monotonic() + START_TIMEOUT
        silent = set(self.nodes)
        while silent:
            self.check()
            if time.monotonic() > deadline:
                raise ProcessError(f"no answer to a ping from {', '.join(sorted(silent))} in {START_TIMEOUT:.0f} s")
            for reply in app.control.ping(destination=sorted(silent), timeout=1.0):
                silent -= reply.keys()

    def crash(self, node: str, **environment: str) -> None:
        """Kill a worker with all its pool processes, and start it again, as a supervisor of processes would.

        Args:
            environment: the variables that it has from now on, beside those that all have.
        """
        self._processes[node].kill()
        self._environment.update(environment)
        self._start(node)

    def check(self) -> None:
        """Raise if a worker process has ended by itself."""
        for process in self._processes.values():
            process.check()

    def stop(self) -> None:
        """Ask all workers to finish (SIGTERM) and require that each ends with status 0."""
        self.check()
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait()

    def kill(self) -> None:
        """End what still runs, pool processes included."""
        for process in self._processes.values():
            process.kill()
