"""The starts of tasks, written a moment late: most tasks end within that time, and cost one record instead of two."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.loop import Loop

logger = logging.getLogger("kafka_exec")

#: The start of a task is written if it still runs after this time, seconds.
DELAY = 0.1


class Starts:
    """The starts of this process's tasks that are still to be written. Thread-safe.

    Args:
        write: writes a state record without waiting; called in a thread that lives as long as there are starts to write.
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
        """Notes that a task has started."""
        if self._pid != os.getpid():
            self._begin(os.getpid())  # a forked child leaves the starts that it inherits to its parent
        with self._lock:
            self._waiting[record.id] = (time.monotonic() + DELAY, record)
            if self._loop is None:
                self._loop = Loop("starts", self._tell_due)
                self._loop.start()

    def drop(self, task_id: str) -> None:
        """Forgets the start of a task, because a later state of it is about to be written."""
        with self._lock:
            self._waiting.pop(task_id, None)

    def _tell_due(self) -> None:
        native.sleep(DELAY / 2)
        with self._lock:
            now = time.monotonic()
            for task_id in [each for each, (due, _) in self._waiting.items() if due <= now]:
                try:
                    self._write(self._waiting.pop(task_id)[1])
                except Exception as error:  # a start is only information; the thread goes on for other tasks
                    logger.debug("the start of task %s was not told: %r", task_id, error)
            if not self._waiting and self._loop is not None:
                self._loop.stop()
                self._loop = None
