"""A watch for stops of this process while a task ran: another worker may have begun and ended the task meanwhile."""

from __future__ import annotations

import os
import time

from kafka_exec.core.nodes.pauses import Ticks
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.loop import Loop


class Pauses:
    """The pauses of the process that runs tasks: the worker's own, or a child of its pool."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._ticks = Ticks(0.0, 0.0)

    def watch(self, heartbeat: float) -> None:
        """Notices pauses from now on, because a task begins; in a thread that lives as long as the process.

        Args:
            heartbeat: the period of heartbeats, seconds; a worker that has missed some may be taken for lost.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            ticks = self._ticks = Ticks(2 * heartbeat, time.time())
            Loop("pauses", lambda: _tick(ticks, heartbeat / 2)).start()

    def since(self, began: float) -> bool:
        """True if the process was stopped for long after the time ``began``, epoch seconds."""
        return self._pid == os.getpid() and self._ticks.stood_still_since(began, time.time())


def _tick(ticks: Ticks, every: float) -> None:
    native.sleep(every)
    ticks.tick(time.time())
