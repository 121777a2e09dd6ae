"""Queues without a topic of their own: exclusive, auto-deleted and transient ones, such as pidboxes and reply queues.

The publisher appends a message once to the exchange's log. Every subscriber reads the log from the end that it had when
the subscriber declared its queue, and keeps the messages that its bindings match. A subscription belongs to its process:
any connection of the process may consume it.
"""

from __future__ import annotations

import logging
import time
from collections import deque

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import exchange_topic
from kafka_exec.core.message import envelope, window
from kafka_exec.core.message.routing import Binding, log_key_of_binding, matches
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.client.native import Waker
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.publish.partitioner import partition_of

logger = logging.getLogger("kafka_exec")

#: A subscription holds so many messages of one priority step at most; more push the oldest ones out.
MOST_BUFFERED = 100_000


class _Listener:
    """One subscription's listener to one exchange's log."""

    def __init__(self, subscription: Subscription, exchange_type: str) -> None:
        self.keys: set[str] = set()
        self.partitions: set[int] = set()
        self._subscription = subscription
        self._type = exchange_type

    def __call__(self, record: Record) -> None:
        routing_key = next((value for name, value in record.headers() or () if name == "routing-key"), None)
        try:
            text = routing_key.decode() if routing_key else ""
        except UnicodeDecodeError as error:
            pass_over(record, error)
            return
        if any(matches(self._type, key, text) for key in tuple(self.keys)):
            self._subscription.arrived(record)


class Subscription:
    """A queue of this process.

    Args:
        auto_delete: the queue is deleted with its last consumer.
        expires: seconds without use after which the queue is deleted; None: never.
        ttl: seconds after which a message in it is dropped; None: never.
        max_priority: messages of higher priority come first, up to this one; None: messages have no priority.
    """

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        settings: Settings,
        topics: Topics,
        *,
        auto_delete: bool,
        expires: float | None,
        ttl: float | None,
        max_priority: int | None,
    ) -> None:
        self.name = name
        self.auto_delete = auto_delete
        self.expires = expires
        self.ttl = ttl
        self.wakers: list[Waker] = []
        self.used = time.monotonic()
        self._max_priority = max_priority
        self._buffers: list[deque[Record]] = [
            deque(maxlen=MOST_BUFFERED) for _ in range(window.steps_for(max_priority))
        ]
        self._turn = 0
        self._cluster = cluster
        self._settings = settings
        self._topics = topics
        self._listeners: dict[str, _Listener] = {}

    def bind(self, binding: Binding, exchange_type: str) -> None:
        """Keeps the messages that match a binding, from the end that the exchange's log has now."""
        spec = exchange_topic(self._settings, self._topics, binding.exchange)
        self._cluster.topics.ensure(spec)
        number = self._cluster.topics.partitions(spec.name) or spec.partitions
        key = log_key_of_binding(exchange_type, binding.routing_key)
        wanted = set(range(number)) if key is None else {partition_of(key, number)}
        listener = self._listeners.get(binding.exchange)
        if listener is None:
            listener = self._listeners[binding.exchange] = _Listener(self, exchange_type)
        listener.keys.add(binding.routing_key)
        if new := wanted - listener.partitions:
            listener.partitions |= new
            self._cluster.log.subscribe(spec.name, new, listener)

    def unbind(self, binding: Binding) -> None:
        """Stops keeping the messages that match a binding."""
        listener = self._listeners.get(binding.exchange)
        if listener is None:
            return
        listener.keys.discard(binding.routing_key)
        if not listener.keys:
            del self._listeners[binding.exchange]
            self._cluster.log.unsubscribe(listener)

    def arrived(self, record: Record) -> None:
        """Buffers a message. The log reader's thread calls it."""
        self._buffers[self._step(record)].append(record)
        for waker in self.wakers:
            waker.wake()

    def take(self) -> Record | None:
        """Takes the next message: of the highest priority, now and then of a lower one."""
        waiting = [step for step, buffer in enumerate(self._buffers) if buffer]
        if not waiting:
            return None
        self._turn += 1
        try:
            return self._buffers[window.pick_step(waiting, self._turn - 1)].popleft()
        except IndexError:
            return None  # another thread was quicker

    def put_back(self, record: Record) -> None:
        """Puts a message back: it comes next in its priority."""
        self._buffers[self._step(record)].appendleft(record)

    def __len__(self) -> int:
        return sum(len(buffer) for buffer in self._buffers)

    def clear(self) -> None:
        """Forgets all messages."""
        for buffer in self._buffers:
            buffer.clear()

    def _step(self, record: Record) -> int:
        if len(self._buffers) == 1:
            return 0
        try:
            priority = envelope.decode(record.headers(), None).properties.get("priority")
        except Undecodable:
            return 0
        return window.step_of(priority, self._max_priority)

    def is_expired(self, now: float) -> bool:
        """True if the queue was not used for the time after which it expires; ``now`` is monotonic seconds."""
        return self.expires is not None and not self.wakers and now - self.used > self.expires

    def close(self) -> None:
        """Stops listening."""
        for listener in self._listeners.values():
            self._cluster.log.unsubscribe(listener)
        self._listeners.clear()
        self.clear()
