"""The node's side of periodic entries with ``on_node``: it runs each claimed entry in a process of its own."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

import billiard

from kafka_exec.beat.entry_runner import EntryRunner
from kafka_exec.beat.run_messages import BeginRun, EndProcess, GoOnUntil, StopRun

logger = logging.getLogger("kafka_exec")

#: A run that is told to stop, and a process that is told to end, may take so long, seconds; then the process is killed.
GRACE = 1.0

#: The processes are forked, as those of Celery's pool: so they have the application and its tasks, however those were made.
_context = billiard.get_context("fork")


class EntryProcess:
    """A claim's process. If it was killed, the next run makes another one.

    Attributes:
        run: the id of the run that is under way; empty: no run is.
    """

    def __init__(self, entry: str, live: Callable[[Any], None]) -> None:
        self.run = ""
        self._entry = entry
        self._live = live
        self._process: Any = None
        self._connection: Any = None

    def open(self) -> None:
        """Makes the claim's process if none lives."""
        if self._process is not None and self._process.is_alive():
            return
        self._discard()
        self._connection, theirs = _context.Pipe()
        self._process = _context.Process(target=self._live, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def forget(self) -> None:
        """Closes the inherited connection. It is called in the processes of other claims."""
        if self._connection is not None:
            self._connection.close()

    def begin(self, run: BeginRun) -> None:
        """Begins a run in the process, which is made if none lives."""
        self.open()
        self.run = run.request["id"]
        self.tell(run)

    def tell(self, order: BeginRun | StopRun | GoOnUntil | EndProcess) -> None:
        """Sends a message to the process, if it lives; a lease only if the pipe takes it: a stuck process reads none."""
        if self._connection is None:
            return
        try:
            if not isinstance(order, GoOnUntil) or select.select((), (self._connection,), (), 0)[1]:
                self._connection.send(order)
        except OSError:
            pass

    def is_over(self, timeout: float = 0.0) -> bool:
        """True if the run is over; waits ``timeout`` seconds at most for its end."""
        try:
            while self.run and self._connection.poll(timeout):
                if self._connection.recv() == self.run:
                    self.run = ""
        except (EOFError, OSError):
            self._process.join(GRACE)
            logger.error("the process of periodic entry %s has died: %s", self._entry, self._process.exitcode)
            self.kill()
        return not self.run

    def kill(self) -> None:
        """Kills the process, and ends its run with it."""
        if self._process is not None:
            if self._process.is_alive():
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.join()
        self._discard()
        self.run = ""

    def close(self) -> None:
        """Ends the process in order, or kills it if that takes too long."""
        if self._process is not None:
            self.tell(EndProcess())
            self._process.join(GRACE)
        self.kill()

    def _discard(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


class NodeRuns:
    """The processes of all entries that run on this node. Not thread-safe.

    Args:
        begin, end: called in an entry's process with the entry's name, before its first run and after its last one.
    """

    def __init__(self, app: Any, hostname: str, begin: Callable[[str], None], end: Callable[[str], None]) -> None:
        self._app = app
        self._hostname = hostname
        self._hooks = begin, end
        self._processes: dict[str, EntryProcess] = {}
        self._ended: list[str] = []
        self._lease = 0.0

    def open(self, entry: str) -> None:
        """Makes an entry's process, because the node has claimed the entry."""
        self._process_of(entry).open()

    def close(self, entry: str) -> bool:
        """Ends an entry's process, because the node has released the entry. False: the entry does not run on this node."""
        if (process := self._processes.pop(entry, None)) is None:
            return False
        self._ended = [each for each in self._ended if each != entry]
        process.close()
        return True

    def begin(self, entry: str, run: BeginRun) -> None:
        """Begins a run of an entry."""
        self._process_of(entry).begin(run)

    def stop(self, entries: Iterable[str], reason: str) -> None:
        """Stops the runs of these entries; returns when they are over."""
        running = [
            (entry, process) for entry in entries if (process := self._processes.get(entry)) is not None and process.run
        ]
        for _, process in running:
            process.tell(StopRun(process.run, reason))
        deadline = time.monotonic() + GRACE
        for entry, process in running:
            if not process.is_over(max(0.0, deadline - time.monotonic())):
                logger.warning("the run of periodic entry %s does not stop: its process is killed", entry)
                process.kill()
            self._ended.append(entry)

    def ended(self) -> list[str]:
        """The entries whose runs have ended since the last call."""
        ended, self._ended = self._ended, []
        return [*ended, *(entry for entry, process in self._processes.items() if process.run and process.is_over())]

    def lease(self, until: float) -> None:
        """Lets the processes go on without this one until a time, seconds of the monotonic clock."""
        if until != self._lease:
            self._lease = until
            for process in self._processes.values():
                process.tell(GoOnUntil(until))

    def _process_of(self, entry: str) -> EntryProcess:
        if entry not in self._processes:
            self._processes[entry] = EntryProcess(entry, lambda connection: self._live(entry, connection))
        return self._processes[entry]

    def _live(self, entry: str, connection: Any) -> None:
        """Runs in the child process: the main function."""
        for process in self._processes.values():
            process.forget()  # so that the children see the end of the node
        begin, end = self._hooks
        runner = EntryRunner(self._app, connection, self._hostname, self._lease)
        runner.live(lambda: begin(entry), lambda: end(entry))
