"""The starts of tasks, told a moment late: most tasks end before anybody could have asked, and cost one record, not two."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.loop import Loop

logger = logging.getLogger("kafka_exec")

#: A task that runs for this time is told to be running, seconds.
DELAY = 0.1


class Starts:
    """The starts in this process that are still to be told. Thread-safe.

    Args:
        write: writes a record without waiting; called in a thread that lives as long as there is something to tell.
    """

    def __init__(self, write: Callable[[StateRecord], None]) -> None:
        self._write = write
        self._begin(None)

    def _begin(self, pid: int | None) -> None:
        self._pid = pid
        self._lock = native.lock()
        self._waiting: dict[str, tuple[float, StateRecord]] = {}
        self._loop: Loop | None = None

    def add(self, record: StateRecord) -> None:
        """A task has started."""
        if self._pid != os.getpid():
            self._begin(os.getpid())  # what a forked child inherits is its parent's to tell
        with self._lock:
            self._waiting[record.id] = (time.monotonic() + DELAY, record)
            if self._loop is None:
                self._loop = Loop("starts", self._tell_due)
                self._loop.start()

    def drop(self, task_id: str) -> None:
        """A later state of the task is about to be written."""
        with self._lock:
            self._waiting.pop(task_id, None)

    def _tell_due(self) -> None:
        native.sleep(DELAY / 2)
        with self._lock:
            now = time.monotonic()
            for task_id in [each for each, (due, _) in self._waiting.items() if due <= now]:
                try:
                    self._write(self._waiting.pop(task_id)[1])
                except Exception as error:  # it is told for those who look on; the thread goes on for other tasks
                    logger.debug("the start of task %s was not told: %r", task_id, error)
            if not self._waiting and self._loop is not None:
                self._loop.stop()
                self._loop = None
