"""A connection: channels, the work queues it consumes, and the one descriptor by which all of them wake their consumer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.client.native import Waker
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.transport.deliveries import Deliveries
from kafka_exec.transport.namespace import Namespace
from kafka_exec.transport.sources import Source, SubscriptionSource, WorkQueue
from kafka_exec.transport.subscriptions import Subscription

#: What one call of the event loop delivers at most, so that other descriptors get their turn.
_MOST_AT_ONCE = 256

#: What a purge, or the search for a single message, may wait for the group, seconds.
SETTLE_TIMEOUT = 10.0

#: What commits and leaving the groups may take at the close, seconds.
_CLOSE_TIMEOUT = 5.0


class Receiver(Protocol):
    """A channel, as its connection needs it."""

    deliveries: Deliveries

    def close(self) -> None:
        """Ends its consumers; what is unacknowledged goes to others."""


class Connection:
    """What :meth:`kombu.Connection.connect` returns for ``kafka-exec://``.

    Attributes:
        node: the worker whose own connection this is; it gives the static membership. None for all others.
        on_fault: what the deliveries of its channels have as theirs.
    """

    def __init__(self, client: Any, transport: Any, space: Namespace) -> None:
        self.client = client
        self.transport = transport
        self.space = space
        self.pid = os.getpid()
        self.channels: list[Receiver] = []
        self.waker = Waker()
        self.connected = True
        self.node: Node | None = None
        self.on_fault: Callable[[Any, Exception], bool] = lambda message, error: False
        self._queues: dict[str, WorkQueue] = {}

    @property
    def is_inherited(self) -> bool:
        """Whether it was made before this process was forked: then nothing of it may be touched."""
        return os.getpid() != self.pid

    def queues(self) -> list[WorkQueue]:
        """The work queues that it consumes, or has a moment ago."""
        return list(self._queues.values())

    def work_queue(self, name: str) -> WorkQueue:
        """The work queue, joined if it is not yet."""
        found = self._queues.get(name)
        if found is None or not found.reclaim():
            if self.node is not None:
                self.space.check_queue(name)
            found = WorkQueue(name, self.space, self.waker.wake, self.node)
            self._queues[name] = found
        return found

    def joined(self, name: str) -> WorkQueue | None:
        """The work queue, if this connection consumes it."""
        return self._queues.get(name)

    def leave(self, name: str) -> None:
        """Stops consuming a work queue at once; for its deletion."""
        if (queue := self._queues.pop(name, None)) is not None:
            queue.stop()
            queue.join(_CLOSE_TIMEOUT)

    def is_consumed(self, source: Source) -> bool:
        """Whether a consumer of any channel reads this source."""
        return any(channel.deliveries.consumes(source) for channel in self.channels)

    def subscription_source(self, subscription: Subscription) -> SubscriptionSource:
        return SubscriptionSource(subscription, self.waker)

    def deliver(self, most: int | None = None, *, one_broadcast: bool = False) -> int:
        """Gives waiting messages to consumers; how many. ``one_broadcast``: stop after a subscription's message."""
        return sum(channel.deliveries.deliver(most, one_broadcast=one_broadcast) for channel in list(self.channels))

    def on_readable(self) -> None:
        """Called by the event loop when the descriptor is readable."""
        self.waker.clear()
        if self.deliver(_MOST_AT_ONCE) >= _MOST_AT_ONCE:
            self.waker.wake()

    def drain_events(self, timeout: float | None = None) -> None:
        """Delivers what is waiting, or waits for something to deliver.

        Of a subscription's messages it delivers one: who collects replies counts the calls.

        Raises:
            socket.timeout: nothing came within ``timeout`` seconds.
            ConnectionFailed: the connection was closed, or belongs to the parent process.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if not self.connected or self.is_inherited:
                raise ConnectionFailed("the connection is closed")
            self.waker.clear()
            if self.deliver(one_broadcast=True):
                self.waker.wake()  # there may be more, also for another thread that waits
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("no message came in time")
            self.waker.wait(left)

    def close(self) -> None:
        """Commits what has ended, leaves all groups, and closes the channels. What is unacknowledged goes to others."""
        if not self.connected or self.is_inherited:
            return
        self.connected = False
        for queue in self._queues.values():
            queue.stop()
        for channel in list(self.channels):
            channel.close()
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        for queue in self._queues.values():
            queue.join(max(0.0, deadline - time.monotonic()))
        self._queues.clear()
        self.waker.close()
