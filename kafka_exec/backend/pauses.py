"""Knows whether this process was stopped while a task ran: then the task may have been begun, and have ended, elsewhere."""

from __future__ import annotations

import os
import time

from kafka_exec.core.nodes.pauses import Ticks
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.loop import Loop


class Pauses:
    """Of the process that runs tasks, whichever that is."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._ticks = Ticks(0.0, 0.0)

    def watch(self, heartbeat: float) -> None:
        """A task begins; from now on pauses are noticed, in a thread that lives as long as the process.

        Args:
            heartbeat: who has missed some of this period may be taken for lost, seconds.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            ticks = self._ticks = Ticks(2 * heartbeat, time.time())
            Loop("pauses", lambda: _tick(ticks, heartbeat / 2)).start()

    def since(self, began: float) -> bool:
        """Whether the process was stopped for long after a time, epoch seconds."""
        return self._pid == os.getpid() and self._ticks.stood_still_since(began, time.time())


def _tick(ticks: Ticks, every: float) -> None:
    native.sleep(every)
    ticks.tick(time.time())
