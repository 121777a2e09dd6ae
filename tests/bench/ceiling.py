"""A transport without a broker: what is left is the time Celery itself takes.

A worker is handed messages built beforehand as fast as its prefetch window asks for them. A publish goes nowhere.
"""

from __future__ import annotations

import os
import select
import socket
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from celery import current_app
from kombu.message import Message
from kombu.serialization import dumps
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.base import StdChannel, Transport, to_rabbitmq_queue_arguments

#: How many messages the measured queue holds, and of which task.
BACKLOG = "BENCH_CEILING_BACKLOG"
TASK = "tests.bench.app.tick"


def register() -> None:
    """Makes ``ceiling://`` known to Kombu."""
    TRANSPORT_ALIASES["ceiling"] = f"{__name__}:CeilingTransport"


class CeilingChannel(StdChannel):
    """Knows no exchanges and one queue: that with the backlog."""

    def __init__(self, connection: CeilingConnection) -> None:
        self.connection = connection
        self.no_ack_consumers: set[str] = set()
        self.window = 0
        self.unacked = 0
        self.waiting: deque[Message] = deque()
        self.callback: Callable[[Message], Any] | None = None

    def deliver(self) -> None:
        """Hands over as many messages as the window has room for."""
        while self.callback and self.waiting and (self.window == 0 or self.unacked < self.window):
            self.unacked += 1
            self.callback(self.waiting.popleft())

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool) -> None:
        self.window = prefetch_count
        self.connection.wake()

    def basic_consume(self, queue: str, callback: Callable[[Message], Any], **options: Any) -> None:
        if queue == os.environ["BENCH_QUEUE"]:
            self.waiting.extend(_backlog(self, int(os.environ.get(BACKLOG, "0"))))
            self.callback = callback
            self.connection.wake()

    def basic_cancel(self, consumer_tag: str) -> None:
        self.callback = None

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        self.unacked -= 1
        self.connection.wake()

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        raise NotImplementedError("a measured task was rejected")

    def prepare_message(
        self,
        body: bytes | str,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> Message:
        return Message(body, None, None, content_type, content_encoding, {}, properties, headers, channel=self)

    def basic_publish(self, message: Message, exchange: str, routing_key: str, **options: Any) -> None:
        """Drops the message."""

    def prepare_queue_arguments(self, arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
        return to_rabbitmq_queue_arguments(arguments, **options)

    def queue_declare(self, queue: str, **options: Any) -> tuple[str, int, int]:
        return queue, 0, 0

    def exchange_declare(self, **options: Any) -> None:
        """Exchanges do not exist."""

    def queue_bind(self, **options: Any) -> None:
        """Nor do bindings."""

    def close(self) -> None:
        self.callback = None
        self.connection.channels.discard(self)


class CeilingConnection:
    """A descriptor that is readable while some window may have room."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.channels: set[CeilingChannel] = set()
        self.reading, self.writing = socket.socketpair()
        self.awake = False

    def wake(self) -> None:
        if not self.awake:
            self.awake = True
            self.writing.send(b"!")

    def on_readable(self) -> None:
        self.reading.recv(16)
        self.awake = False
        for channel in tuple(self.channels):
            channel.deliver()


class CeilingTransport(Transport):
    """Serves the event loop as an established transport would."""

    driver_type = driver_name = "ceiling"
    implements = Transport.implements.extend(asynchronous=True)

    def establish_connection(self) -> CeilingConnection:
        return CeilingConnection(self.client)

    def close_connection(self, connection: CeilingConnection) -> None:
        connection.reading.close()
        connection.writing.close()

    def create_channel(self, connection: CeilingConnection) -> CeilingChannel:
        channel = CeilingChannel(connection)
        connection.channels.add(channel)
        return channel

    def close_channel(self, channel: CeilingChannel) -> None:
        channel.close()

    def register_with_event_loop(self, connection: CeilingConnection, loop: Any) -> None:
        loop.add_reader(connection.reading, connection.on_readable)

    def drain_events(self, connection: CeilingConnection, timeout: float | None = None, **options: Any) -> None:
        if not select.select([connection.reading], [], [], timeout)[0]:
            raise TimeoutError
        connection.on_readable()


def _backlog(channel: CeilingChannel, size: int) -> Iterator[Message]:
    """Builds messages as Celery's publisher writes them and a transport hands them over."""
    for tag in range(1, size + 1):
        task = current_app.amqp.as_task_v2(str(uuid.uuid4()), TASK, args=(), kwargs={})
        content_type, content_encoding, body = dumps(task.body, "json")
        properties = {**task.properties, "delivery_mode": 2, "priority": 0}
        delivery_info = {"exchange": "", "routing_key": os.environ["BENCH_QUEUE"], "redelivered": False}
        yield Message(
            body, tag, content_type, content_encoding, delivery_info, properties, task.headers, channel=channel
        )
