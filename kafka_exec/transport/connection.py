"""A connection: its channels, the work queues that it consumes, and one descriptor by which all of them wake it."""

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

#: One call of the event loop delivers so many messages at most, so that other descriptors get their turn.
_MOST_AT_ONCE = 256

#: A purge, or the search for a single message, waits so long at most for the consumer group, seconds.
SETTLE_TIMEOUT = 10.0

#: To commit and to leave its groups, a connection that closes takes so long at most, seconds.
_CLOSE_TIMEOUT = 5.0


class Receiver(Protocol):
    """The part of a channel that its connection needs."""

    deliveries: Deliveries

    def close(self) -> None:
        """Ends the channel's consumers; other processes get the unacknowledged messages."""


class Connection:
    """A connection, as :meth:`kombu.Connection.connect` returns it for ``kafka-exec://``.

    Attributes:
        node: the worker whose own connection this is; it gives the static membership. None for all others.
        on_fault: the ``on_fault`` of the deliveries of all its channels; see :class:`Deliveries`.
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
        """True if the connection was made before this process was forked: then this process must not touch it."""
        return os.getpid() != self.pid

    @property
    def log_offset(self) -> float | None:
        """The ``log_offset`` of a worker's node."""
        return None if self.node is None else self.node.log_offset

    def queues(self) -> list[WorkQueue]:
        """The work queues that the connection consumes, or has consumed a moment ago."""
        return list(self._queues.values())

    def work_queue(self, name: str) -> WorkQueue:
        """The work queue of this name; its consumer groups are joined if they are not yet."""
        found = self._queues.get(name)
        if found is None or not found.reclaim():
            if self.node is not None:
                self.space.check_queue(name)
            found = WorkQueue(name, self.space, self.waker.wake, self.node)
            self._queues[name] = found
        return found

    def joined(self, name: str) -> WorkQueue | None:
        """The work queue of this name, if this connection consumes it."""
        return self._queues.get(name)

    def leave(self, name: str) -> None:
        """Stops consuming a work queue at once, because it is about to be deleted."""
        if (queue := self._queues.pop(name, None)) is not None:
            queue.stop()
            queue.join(_CLOSE_TIMEOUT)

    def is_consumed(self, source: Source) -> bool:
        """True if a consumer of any channel reads this source."""
        return any(channel.deliveries.consumes(source) for channel in self.channels)

    def subscription_source(self, subscription: Subscription) -> SubscriptionSource:
        return SubscriptionSource(subscription, self.waker)

    def deliver(self, most: int | None = None, *, one_broadcast: bool = False) -> int:
        """Gives waiting messages to consumers; returns their number. Arguments as in :meth:`Deliveries.deliver`."""
        return sum(channel.deliveries.deliver(most, one_broadcast=one_broadcast) for channel in list(self.channels))

    def on_readable(self) -> None:
        """Delivers messages. The event loop calls it when the descriptor is readable."""
        self.waker.clear()
        if self.deliver(_MOST_AT_ONCE) >= _MOST_AT_ONCE:
            self.waker.wake()

    def drain_events(self, timeout: float | None = None) -> None:
        """Delivers the messages that are waiting, or waits for a message and delivers it.

        Of a subscription's messages it delivers only one: Celery counts the calls when it collects replies.

        Raises:
            socket.timeout: no message came within ``timeout`` seconds.
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
        """Commits, leaves all groups, and closes the channels. Other processes get the unacknowledged messages."""
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
