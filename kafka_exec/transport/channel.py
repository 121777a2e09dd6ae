"""The operations of AMQP that Celery and Kombu call, on Kafka."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from amqp.protocol import queue_declare_ok_t
from kombu.transport import base
from kombu.utils.encoding import str_to_bytes
from kombu.utils.uuid import uuid

from kafka_exec.core import envelope, window
from kafka_exec.core.routing import Binding, log_key
from kafka_exec.errors import ChannelFailed, ConnectionFailed, KafkaExecError, NoSuchQueue, Undecodable
from kafka_exec.transport.connection import SETTLE_TIMEOUT
from kafka_exec.transport.publishing import PublishBatch, has_failover, in_time
from kafka_exec.transport.sources import Item, Source, SubscriptionSource, WorkQueue

if TYPE_CHECKING:
    from kafka_exec.transport.connection import Connection

logger = logging.getLogger("kafka_exec")


class _Consumer(NamedTuple):
    tag: str
    source: Source
    no_ack: bool
    callback: Callable[[base.Message], Any]
    on_cancel: Callable[[str], Any] | None


class Channel(base.StdChannel):
    """A channel. Publishing, acknowledging and rejecting are thread-safe; delivery happens where events are drained."""

    supports_batch_publish = True
    _ids = itertools.count(1)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.channel_id = next(self._ids)
        self.no_ack_consumers: set[str] = set()
        self.events: dict[str, set[Any]] = {"basic_return": set()}
        self.prefetch_count = 0
        self.closed = False
        self._space = connection.space
        self._consumers: dict[str, _Consumer] = {}
        self._unacked: dict[int, tuple[Source, Item]] = {}
        self._tags = itertools.count(1)
        self._rotation = 0
        self._held_back = False
        self._flowing = True
        self._own: set[str] = set()
        # Several threads may drain one connection; what is taken must reach the callback in order.
        self._delivering = threading.RLock()

    # -- publishing ----------------------------------------------------------------------------------------------------

    def prepare_message(
        self,
        body: str | bytes,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> envelope.Message:
        """The message as :meth:`basic_publish` takes it; the body's bytes are not touched."""
        properties = dict(properties or {})
        if priority is not None:
            properties["priority"] = priority
        return envelope.Message(
            body=str_to_bytes(body),
            content_type=content_type or "application/octet-stream",
            content_encoding=content_encoding or "binary",
            headers=headers or {},
            properties=properties,
        )

    def basic_publish(
        self,
        message: envelope.Message,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
    ) -> None:
        """Publishes: to the work queues it is bound for, which waits for the broker, and to the exchange's listeners.

        Raises:
            NotConfirmed: the broker has not acknowledged it in time, so it may or may not be there.
            ConnectionFailed: likewise, when there is another broker URL to fail over to.
            MessageTooLarge: nothing was published.
            NoSuchQueue: ``mandatory``, and no work queue takes it.
        """
        self._check_open()
        message = message._replace(exchange=exchange or "", routing_key=routing_key or "")
        queues = self._route(message.exchange, message.routing_key)
        if mandatory and not queues:
            raise NoSuchQueue(f"no work queue takes messages of exchange {exchange!r} with routing key {routing_key!r}")
        headers = envelope.encode(message)
        with in_time(self.connection.client):
            for name in queues:
                step = window.step_of(message.properties.get("priority"), self._space.declaration(name).max_priority)
                self._space.cluster.publisher.send(
                    self._space.queue_to_publish(name, step),
                    message.body,
                    key=message.key,
                    headers=headers,
                    timeout=confirm_timeout or timeout,
                    at_once=has_failover(self.connection.client),
                )
            if message.exchange or not queues:
                kind = self._space.bindings.type_of(message.exchange)
                self._space.cluster.publisher.post(
                    self._space.exchange_log(message.exchange),
                    message.body,
                    key=log_key(kind, message.routing_key),
                    headers=headers,
                )

    def _route(self, exchange: str, routing_key: str) -> list[str]:
        if exchange:
            return self._space.bindings.queues(exchange, routing_key)
        return [routing_key] if self._space.is_work_queue(routing_key) else []

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """For :meth:`kombu.Producer.batch`."""
        return PublishBatch(self, max_size)

    # -- declaring -----------------------------------------------------------------------------------------------------

    def prepare_queue_arguments(self, arguments: Mapping[str, Any] | None, **options: Any) -> Mapping[str, Any]:
        """RabbitMQ's names for queue arguments are ours too; times become milliseconds."""
        found: Mapping[str, Any] = base.to_rabbitmq_queue_arguments(arguments or {}, **options)
        return found

    def exchange_declare(
        self,
        exchange: str = "",
        type: str = "direct",
        durable: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
        passive: bool = False,
    ) -> None:
        """Declares an exchange of type direct, topic or fanout."""
        self._check_open()
        if type not in ("direct", "topic", "fanout"):
            raise ChannelFailed(f"exchange {exchange!r}: Kafka has no exchanges of type {type!r}")
        if not passive:
            self._space.bindings.declare_exchange(exchange, type, durable=durable and not auto_delete)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Deletes an exchange and its bindings."""
        self._check_open()
        self._space.bindings.delete_exchange(exchange)

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
    ) -> queue_declare_ok_t:
        """Declares a queue: a topic, or a subscription of this process if it is exclusive or auto-deleted.

        Only a passive declaration counts messages and consumers: that takes several requests.

        Raises:
            NoSuchQueue: ``passive``, and there is none of this name.
            TopicMismatch: its topic has another number of partitions than ``x-partitions``.
        """
        self._check_open()
        queue = queue or f"amq.gen-{uuid()}"
        if passive:
            return self._measure(queue)
        arguments = arguments or {}
        if exclusive or auto_delete:
            subscription = self._space.subscribe(queue, arguments, auto_delete=auto_delete)
            if exclusive:
                self._own.add(queue)
            subscription.bind(Binding(queue, "", queue), "direct")
        else:
            self._space.declare_queue(queue, arguments)
        return queue_declare_ok_t(queue, 0, 0)

    def _measure(self, queue: str) -> queue_declare_ok_t:
        if (subscription := self._space.subscription(queue)) is not None:
            return queue_declare_ok_t(queue, len(subscription), len(subscription.wakers))
        if (joined := self.connection.joined(queue)) is not None and joined.reclaim():
            joined.commit(SETTLE_TIMEOUT)
            if not self._is_consumed(joined):
                joined.release()
        backlog = self._space.cluster.topics.backlog(self._space.queue_topics(queue))
        return queue_declare_ok_t(queue, backlog.messages, backlog.consumers)

    def queue_bind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
    ) -> None:
        """Binds a queue: a work queue's binding holds for all processes, until it is unbound."""
        self._check_open()
        binding = Binding(queue, exchange or "", routing_key or "")
        if (subscription := self._space.subscription(queue)) is not None:
            subscription.bind(binding, self._space.bindings.type_of(binding.exchange))
        elif binding.exchange:
            self._space.bindings.bind(binding)

    def queue_unbind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
    ) -> None:
        """Removes a binding."""
        self._check_open()
        binding = Binding(queue, exchange or "", routing_key or "")
        if (subscription := self._space.subscription(queue)) is not None:
            subscription.unbind(binding)
        elif binding.exchange:
            self._space.bindings.unbind(binding)

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, nowait: bool = False) -> int:
        """Deletes a queue and all in it; how many messages that were, where a condition made it count them."""
        self._check_open()
        if self._space.subscription(queue) is not None:
            self._space.unsubscribe(queue)
            return 0
        messages = 0
        if if_unused or if_empty:
            found = self._measure(queue)
            messages = found.message_count
            if (if_unused and found.consumer_count) or (if_empty and messages):
                raise ChannelFailed(f"queue {queue!r} is in use: {messages} messages, {found.consumer_count} consumers")
        self.connection.leave(queue)
        self._space.delete_queue(queue)
        return messages

    def queue_purge(self, queue: str, nowait: bool = False) -> int:
        """Deletes what waits in a queue and is not with a consumer; how many messages that were."""
        self._check_open()
        if (subscription := self._space.subscription(queue)) is not None:
            count = len(subscription)
            subscription.clear()
            return count
        count = self._space.cluster.topics.purge(self._space.queue_topics(queue))
        if (joined := self.connection.joined(queue)) is not None:
            joined.discard()
        return count

    # -- consuming -----------------------------------------------------------------------------------------------------

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Bounds the unacknowledged messages of this channel, all its consumers together; 0: no bound."""
        self.prefetch_count = prefetch_count
        if self._held_back:
            self.connection.waker.wake()

    def basic_consume(
        self,
        queue: str,
        no_ack: bool = False,
        callback: Callable[[base.Message], Any] | None = None,
        consumer_tag: str | None = None,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        on_cancel: Callable[[str], Any] | None = None,
    ) -> str:
        """Starts to consume a queue; the tag by which to cancel it."""
        self._check_open()
        tag = consumer_tag or f"ctag-{uuid()}"
        source: Source
        if (subscription := self._space.subscription(queue)) is not None:
            source = self.connection.subscription_source(subscription)
            source.attach()
        elif self._space.is_work_queue(queue):
            source = self.connection.work_queue(queue)
        else:
            raise NoSuchQueue(f"queue {queue!r} does not exist: declare it first")
        self._consumers[tag] = _Consumer(tag, source, no_ack, callback or (lambda message: None), on_cancel)
        if no_ack:
            self.no_ack_consumers.add(tag)
        self.connection.waker.wake()
        return tag

    def basic_cancel(self, consumer_tag: str, nowait: bool = False) -> None:
        """Ends a consumer. What it has and has not acknowledged stays its own."""
        consumer = self._consumers.pop(consumer_tag, None)
        if consumer is None or self.connection.is_inherited:
            return
        self.no_ack_consumers.discard(consumer_tag)
        source = consumer.source
        if isinstance(source, SubscriptionSource):
            source.detach()
            if source.subscription.auto_delete and not source.subscription.wakers:
                self._space.unsubscribe(source.name)
        elif isinstance(source, WorkQueue) and not self._is_consumed(source):
            source.release()

    def _is_consumed(self, source: Source) -> bool:
        return any(
            consumer.source is source
            for channel in self.connection.channels
            for consumer in list(channel._consumers.values())
        )

    def basic_get(self, queue: str, no_ack: bool = False) -> base.Message | None:
        """One message, or None if there is none now that this process may have."""
        self._check_open()
        if (subscription := self._space.subscription(queue)) is not None:
            source: Source = self.connection.subscription_source(subscription)
            subscription.used = time.monotonic()
        else:
            if not self._space.is_work_queue(queue):
                raise NoSuchQueue(f"queue {queue!r} does not exist: declare it first")
            source = joined = self.connection.work_queue(queue)
            if joined.is_empty():
                joined.settle(SETTLE_TIMEOUT)
            if not self._is_consumed(joined):
                joined.release()
        while (item := source.take()) is not None:
            message = self._open(item, source, "", no_ack)
            if message is not None:
                return message
        return None

    def deliver(self, most: int | None = None, *, one_broadcast: bool = False) -> int:
        """Gives waiting messages to the consumers, in turns, as far as the prefetch count allows; how many.

        Args:
            one_broadcast: stop after a subscription's message.
        """
        if not self._consumers or not self._flowing or not self._delivering.acquire(blocking=False):
            return 0
        delivered = 0
        try:
            self._held_back = False
            while most is None or delivered < most:
                if self.prefetch_count and len(self._unacked) >= self.prefetch_count:
                    self._held_back = True
                    break
                source = self._deliver_next()
                if source is None:
                    break
                delivered += 1
                if one_broadcast and isinstance(source, SubscriptionSource):
                    break
        finally:
            self._delivering.release()
        return delivered

    def _deliver_next(self) -> Source | None:
        """Delivers one message; the source it came from, None if there was none."""
        consumers = list(self._consumers.values())
        for turn in range(len(consumers)):
            consumer = consumers[(self._rotation + turn) % len(consumers)]
            while (item := consumer.source.take()) is not None:
                message = self._open(item, consumer.source, consumer.tag, consumer.no_ack)
                if message is not None:
                    self._rotation += turn + 1
                    consumer.callback(message)
                    return consumer.source
        return None

    def _open(self, item: Item, source: Source, tag: str, no_ack: bool) -> base.Message | None:
        """The message of an item; None if it is not to be delivered: expired, or not a message."""
        record = item.record
        try:
            found = envelope.decode(record.headers(), record.value())
        except Undecodable as error:
            self._bury(source, item, error.reason, str(error))
            return None
        if (source.ttl is not None or "expiration" in found.properties) and envelope.expired(
            found, record.timestamp()[1] / 1000, source.ttl, time.time()
        ):
            source.end(item)
            return None
        delivery_tag = next(self._tags)
        if no_ack:
            source.end(item)
        else:
            self._unacked[delivery_tag] = (source, item)
        return base.Message(
            body=found.body,
            delivery_tag=delivery_tag,
            content_type=found.content_type,
            content_encoding=found.content_encoding,
            delivery_info={
                "exchange": found.exchange,
                "routing_key": found.routing_key,
                "redelivered": item.redelivered,
                "consumer_tag": tag,
                "priority": found.properties.get("priority"),
                "partition": record.partition(),
                "offset": record.offset(),
            },
            properties=found.properties,
            headers=found.headers,
            channel=self,
        )

    def _bury(self, source: Source, item: Item, reason: str, error: str) -> None:
        record = item.record
        logger.error(
            "record %s of partition %s of %s goes to the dead letters: %s",
            *(record.offset(), record.partition(), record.topic(), error),
        )
        try:
            source.bury(item, reason, error)
        except KafkaExecError as failure:
            # Not ended, so not lost: whoever owns the partition next finds it again.
            logger.error("the dead letter could not be written: %s", failure)

    # -- acknowledging -------------------------------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """The message is finished; with ``multiple``, all up to it."""
        for source, item in self._settle(delivery_tag, multiple):
            source.end(item)
        self._refill()

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """The message is to be delivered again, by this process before later ones, or goes to the dead letters."""
        for source, item in self._settle(delivery_tag, False):
            if requeue:
                source.put_back(item)
                self.connection.waker.wake()
            else:
                try:
                    source.bury(item, "rejected", "the consumer rejected it")
                except KafkaExecError:
                    self._unacked[delivery_tag] = (source, item)
                    raise
        self._refill()

    def basic_recover(self, requeue: bool = True) -> None:
        """Has all unacknowledged messages delivered again."""
        for tag in sorted(self._unacked):
            self.basic_reject(tag, requeue=True)

    def _settle(self, delivery_tag: int, multiple: bool) -> list[tuple[Source, Item]]:
        tags = [tag for tag in sorted(self._unacked) if tag <= delivery_tag] if multiple else [delivery_tag]
        return [found for tag in tags if (found := self._unacked.pop(tag, None)) is not None]

    def _refill(self) -> None:
        if self._held_back and window.refill_due(self.prefetch_count, len(self._unacked)):
            self.connection.waker.wake()

    # -- the rest ------------------------------------------------------------------------------------------------------

    def flow(self, active: bool = True) -> None:
        """Stops or resumes deliveries."""
        self._flowing = active
        self.connection.waker.wake()

    def _check_open(self) -> None:
        if self.closed or self.connection.is_inherited:
            raise ConnectionFailed("the channel is closed")

    def close(self) -> None:
        """Cancels the consumers; what is unacknowledged is delivered again, here or elsewhere."""
        if self.closed or self.connection.is_inherited:
            return
        self.closed = True
        for tag in list(self._consumers):
            self.basic_cancel(tag)
        if self.connection.connected:
            for source, item in self._settle(max(self._unacked, default=0), True):
                source.put_back(item)
        for name in self._own:
            self._space.unsubscribe(name)
        if self in self.connection.channels:
            self.connection.channels.remove(self)
