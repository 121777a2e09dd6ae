"""What the workers' events tell about the tasks of this application."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from typing import Any

from celery import Celery

Event = dict[str, Any]


class EventLog:
    """Receives the events of some workers in a thread and keeps the figures a report needs."""

    def __init__(self, app: Celery, nodes: Collection[str]) -> None:
        self.counts: Counter[str] = Counter()
        self.runtimes: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._app = app
        self._nodes = frozenset(nodes)
        self._alive: set[str] = set()
        self._names: dict[str, str] = {}
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._receiver: Any = None
        self._thread = threading.Thread(target=self._receive, name="events", daemon=True)

    def start(self) -> None:
        """Subscribe; the workers are asked for a heartbeat, so :meth:`wait_until_live` can follow."""
        self._thread.start()

    def stop(self) -> None:
        """Unsubscribe."""
        if self._receiver is not None:
            self._receiver.should_stop = True
        self._thread.join(timeout=10)

    def wait_until_live(self, timeout: float) -> bool:
        """Wait for an event of every worker: nothing that happens from then on is missed."""
        return self._wait(lambda: self._alive >= self._nodes, timeout)

    def wait_for(self, expected: dict[str, int], timeout: float) -> bool:
        """Wait until as many events of these types have been seen."""
        return self._wait(lambda: all(self.counts[kind] >= n for kind, n in expected.items()), timeout)

    def _wait(self, reached: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        with self._changed:
            while not reached() and self._error is None and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._error is not None:
                raise self._error
            return reached()

    def _receive(self) -> None:
        try:
            with self._app.connection_for_read() as connection:
                self._receiver = self._app.events.Receiver(connection, handlers={"*": self._on_event})
                self._receiver.capture(limit=None, timeout=None, wakeup=True)
        except Exception as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _on_event(self, event: Event) -> None:
        node = event.get("hostname")
        if node not in self._nodes:
            return
        with self._changed:
            kind = event["type"]
            self._alive.add(node)
            self.counts[kind] += 1
            if kind == "task-received":
                self._names[event["uuid"]] = event["name"]
            elif kind == "task-succeeded":
                name = self._names.get(event["uuid"], "?")
                self.runtimes[node, name].append(event["runtime"])
            self._changed.notify_all()
