"""The pool of an app's connections to kafka-exec, from which no caller has to wait for a connection."""

from __future__ import annotations

from typing import Any

from kombu.connection import ConnectionPool


class Pool(ConnectionPool):  # type: ignore[misc]
    """Kombu's pool, but ``broker_pool_limit`` is the number of connections that are kept, not of those that may exist.

    Connections cost little, since all connections of a process share their clients. A limit would be harmful: remote control
    holds one connection while it waits for replies, and takes another one to publish, so as many threads as the limit
    allows would wait for one another for ever.
    """

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        """A free connection; a new one if none is free."""
        return super().acquire(block=False)

    def _add_when_empty(self) -> None:
        self._resource.put_nowait(self.new())

    def release(self, resource: Any) -> None:
        """Keeps a connection for the next caller, unless the limit is reached."""
        if self.limit and self._resource.qsize() >= self.limit:
            self.replace(resource)
        else:
            super().release(resource)
