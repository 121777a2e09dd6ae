"""Worker processes of the application, started and stopped by the demonstration."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from celery_app.app import app

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0


class WorkerError(Exception):
    """A worker process did not start, stay or stop as it should."""


class Workers:
    """``count`` worker processes on one broker, each with a log file; a context manager that leaves none behind."""

    def __init__(self, count: int, concurrency: int, broker_url: str, logs: Path) -> None:
        # The process id keeps the names apart from those of another demonstration on the same broker.
        self.nodes = [f"demo{number}@pid{os.getpid()}" for number in range(1, count + 1)]
        self.logs = {node: logs / f"{node}.log" for node in self.nodes}
        self._concurrency = concurrency
        self._environment = {**os.environ, "EXAMPLE_BROKER_URL": broker_url}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Workers:
        try:
            for node in self.nodes:
                self._processes[node] = self._start(node)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            # A worker that died is the reason of whatever failed after it, so its death is what is reported.
            if isinstance(error, Exception) and not isinstance(error, WorkerError):
                self.check()
        finally:
            self.kill()

    def _start(self, node: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--hostname", node]
        # One task at a time is reserved per process, so that the batches spread over the workers evenly.
        command += ["--concurrency", str(self._concurrency), "--prefetch-multiplier", "1"]
        command += ["--task-events", "--loglevel", "INFO"]
        with self.logs[node].open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is ours to handle, and kill() reaches the pool's processes.
            return subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when every worker has answered a ping."""
        deadline = time.monotonic() + START_TIMEOUT
        silent = set(self.nodes)
        while silent:
            self.check()
            if time.monotonic() > deadline:
                raise WorkerError(f"no answer to a ping from {', '.join(sorted(silent))} in {START_TIMEOUT:.0f} s")
            for reply in app.control.ping(destination=sorted(silent), timeout=1.0):
                silent -= reply.keys()

    def crash(self, node: str) -> None:
        """Kill a worker with all its pool processes, and start it again, as a supervisor of processes would."""
        process = self._processes[node]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._processes[node] = self._start(node)

    def check(self) -> None:
        """Raise if a worker process has ended by itself."""
        for node, process in self._processes.items():
            if process.poll() is not None:
                raise WorkerError(f"worker {node} ended by itself with status {process.returncode}")

    def stop(self) -> None:
        """Ask all workers to finish (SIGTERM) and require that each ends with status 0."""
        self.check()
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        for node, process in self._processes.items():
            try:
                status = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise WorkerError(f"worker {node} was still running {STOP_TIMEOUT:.0f} s after SIGTERM") from None
            if status:
                raise WorkerError(f"worker {node} ended with status {status} after SIGTERM")

    def kill(self) -> None:
        """End what still runs, pool processes included."""
        for process in self._processes.values():
            if process.returncode != 0:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
