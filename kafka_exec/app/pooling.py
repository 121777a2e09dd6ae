"""The pool of Celery's connections to kafka-exec, which never makes anybody wait."""

from __future__ import annotations

from typing import Any

from kombu.connection import ConnectionPool


class Pool(ConnectionPool):  # type: ignore[misc]
    """Kombu's, but ``broker_pool_limit`` is how many connections are kept, not how many there may be.

    They cost little, as all of a process share their clients. And remote control holds one while it waits for replies and
    takes another one to publish: as many threads as there may be connections would wait for each other for ever.
    """

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        """A connection that nobody uses; a new one if there is none."""
        return super().acquire(block=False)

    def _add_when_empty(self) -> None:
        self._resource.put_nowait(self.new())

    def release(self, resource: Any) -> None:
        """Keeps a connection for the next one, unless enough are kept."""
        if self.limit and self._resource.qsize() >= self.limit:
            self.replace(resource)
        else:
            super().release(resource)
