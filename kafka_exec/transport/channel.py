"""The operations of AMQP that Celery and Kombu call, on Kafka."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

from amqp.protocol import queue_declare_ok_t
from kombu.transport import base
from kombu.utils.encoding import str_to_bytes
from kombu.utils.uuid import uuid

from kafka_exec.core.cluster.arguments import check_consumer, check_exchange, no_priority
from kafka_exec.core.message import envelope
from kafka_exec.core.message.routing import EXCHANGE_TYPES, Binding, log_key
from kafka_exec.errors import ChannelFailed, ConnectionFailed, NoSuchQueue
from kafka_exec.kafka.client.failures import within
from kafka_exec.transport.connection import SETTLE_TIMEOUT, Connection
from kafka_exec.transport.deliveries import Deliveries
from kafka_exec.transport.publishing import PublishBatch, has_failover, in_time, place_in
from kafka_exec.transport.sources import Source, SubscriptionSource, WorkQueue
from kafka_exec.transport.values import to_json


class Channel(base.StdChannel):
    """A channel. Publishing, acknowledging and rejecting are thread-safe; the thread that drains events delivers."""

    supports_batch_publish = True
    _ids = itertools.count(1)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.channel_id = next(self._ids)
        self.no_ack_consumers: set[str] = set()
        self.events: dict[str, set[Any]] = {"basic_return": set()}
        self.closed = False
        self.deliveries = Deliveries(
            self, connection.waker.wake, lambda message, error: connection.on_fault(message, error)
        )
        self._space = connection.space
        self._own: set[str] = set()

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
        """Makes the message that :meth:`basic_publish` takes; the body's bytes stay as they are.

        Raises:
            ChannelFailed: the priority is not a number.
        """
        properties = dict(properties or {})
        if priority is not None:
            if complaint := no_priority(priority):
                raise ChannelFailed(f"the priority of a message {complaint}")
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
        message: envelope.Message | str | bytes,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
    ) -> None:
        """Publishes a message to the work queues that are bound to it, and to the exchange's listeners.

        For the work queues it waits until the broker has acknowledged. A task with a time of its own waits for it in Kafka,
        unless that time is only a moment away.

        Args:
            message: one that :meth:`prepare_message` has made, or only a body, as ``celery amqp`` gives it.

        Raises:
            NotConfirmed: the broker has not acknowledged the message in time, so it may or may not be there.
            ConnectionFailed: the same, where the URL names another broker to fail over to.
            MessageTooLarge: the broker does not take messages of this size; nothing was published.
            NoSuchQueue: ``mandatory`` is set, and no work queue takes the message.
            Unwritable: a header or property cannot be written so that it arrives unchanged.
        """
        self._check_open()
        if isinstance(message, str):
            message = self.prepare_message(message, content_type="text/plain", content_encoding="utf-8")
        elif isinstance(message, bytes):
            message = self.prepare_message(message)
        message = message._replace(exchange=exchange or "", routing_key=routing_key or "")
        headers = envelope.encode(message, to_json)
        with in_time(self.connection.client), within(self._space.settings.publish_timeout):
            queues = self._route(message.exchange, message.routing_key)
            if mandatory and not queues:
                raise NoSuchQueue(
                    f"no work queue takes messages of exchange {exchange!r} with routing key {routing_key!r}"
                )
            for name in queues:
                place = place_in(self._space, name, message, headers)
                self._space.cluster.publisher.send(
                    place.topic,
                    message.body,
                    key=message.key,
                    headers=place.headers,
                    partition=place.partition,
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
        """Makes a batch for :meth:`kombu.Producer.batch`."""
        return PublishBatch(self, max_size)

    # -- declaring -----------------------------------------------------------------------------------------------------

    def prepare_queue_arguments(self, arguments: Mapping[str, Any] | None, **options: Any) -> Mapping[str, Any]:
        """Gives queue arguments RabbitMQ's names, which kafka_exec uses too, and turns times into milliseconds."""
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
        """Declares an exchange of type direct, topic or fanout.

        Raises:
            ChannelFailed: the exchange is of another type.
            ConfigurationError: the exchange has arguments, which would have no effect.
        """
        self._check_open()
        if type not in EXCHANGE_TYPES:
            raise ChannelFailed(f"exchange {exchange!r}: Kafka has no exchanges of type {type!r}")
        check_exchange(exchange, arguments or {})
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

        Only a passive declaration counts messages and consumers, because counting takes several requests.

        Raises:
            NoSuchQueue: ``passive`` is set, and there is no queue of this name.
            ConfigurationError: an argument is wrong, or asks for something that a queue on Kafka does not do.
            TopicMismatch: the queue's topic has another number of partitions than ``x-partitions``.
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
            if not self.connection.is_consumed(joined):
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
        """Binds a queue. A work queue's binding holds for all processes, until it is removed."""
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
        """Removes a queue's binding."""
        self._check_open()
        binding = Binding(queue, exchange or "", routing_key or "")
        if (subscription := self._space.subscription(queue)) is not None:
            subscription.unbind(binding)
        elif binding.exchange:
            self._space.bindings.unbind(binding)

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, nowait: bool = False) -> int:
        """Deletes a queue and its messages; returns their number if a condition made it count them, otherwise 0."""
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
        """Deletes the messages of a queue that no consumer has; returns their number."""
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

    @property
    def prefetch_count(self) -> int:
        """The bound of the unacknowledged messages; 0: no bound."""
        return self.deliveries.prefetch_count

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Bounds the unacknowledged messages of this channel, all its consumers together; 0: no bound."""
        self.deliveries.limit(prefetch_count)

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
        """Starts to consume a queue; returns the tag by which the consumer is cancelled.

        Raises:
            NoSuchQueue: the queue is not declared.
            ConfigurationError: an argument of the consumer would have no effect.
        """
        self._check_open()
        check_consumer(queue, arguments or {})
        tag = consumer_tag or f"ctag-{uuid()}"
        source: Source
        if (subscription := self._space.subscription(queue)) is not None:
            source = self.connection.subscription_source(subscription)
            source.attach()
        elif self._space.is_work_queue(queue):
            source = self.connection.work_queue(queue)
        else:
            raise NoSuchQueue(f"queue {queue!r} does not exist: declare it first")
        self.deliveries.add(tag, source, no_ack, callback or (lambda message: None))
        if no_ack:
            self.no_ack_consumers.add(tag)
        return tag

    def basic_cancel(self, consumer_tag: str, nowait: bool = False) -> None:
        """Ends a consumer. It keeps the messages that it has not acknowledged yet."""
        source = self.deliveries.remove(consumer_tag)
        if source is None or self.connection.is_inherited:
            return
        self.no_ack_consumers.discard(consumer_tag)
        if isinstance(source, SubscriptionSource):
            source.detach()
            if source.subscription.auto_delete and not source.subscription.wakers:
                self._space.unsubscribe(source.name)
        elif isinstance(source, WorkQueue) and not self.connection.is_consumed(source):
            source.release()

    def basic_get(self, queue: str, no_ack: bool = False) -> base.Message | None:
        """Takes one message; None if there is no message now that this process may have."""
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
            if not self.connection.is_consumed(joined):
                joined.release()
        message = self.deliveries.take(source, no_ack=no_ack)
        if message is not None:
            # AMQP's answer has the tag too; a person who uses ``celery amqp`` sees it nowhere else.
            message.delivery_info["delivery_tag"] = message.delivery_tag
        return message

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Ends a message; with ``multiple``, also all messages before it."""
        self.deliveries.acknowledge(delivery_tag, multiple)

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Has a message delivered again, by this process before later ones (``requeue``), or makes it a dead letter."""
        self.deliveries.reject(delivery_tag, requeue)

    def basic_recover(self, requeue: bool = True) -> None:
        """Puts all unacknowledged messages back: they are delivered again."""
        self.deliveries.put_back()

    def flow(self, active: bool = True) -> None:
        """Stops or resumes deliveries."""
        self.deliveries.flow(active)

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed or self.connection.is_inherited:
            raise ConnectionFailed("the channel is closed")

    def close(self) -> None:
        """Cancels the consumers; unacknowledged messages are delivered again, by this process or another."""
        if self.closed or self.connection.is_inherited:
            return
        self.closed = True
        for tag in self.deliveries.tags():
            self.basic_cancel(tag)
        if self.connection.connected:
            self.deliveries.put_back()
        for name in self._own:
            self._space.unsubscribe(name)
        if self in self.connection.channels:
            self.connection.channels.remove(self)
