"""The worker's parts: its consumer class and its place in the consumer groups."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker import consumer
from celery.worker.consumer.gossip import Gossip
from celery.worker.consumer.mingle import Mingle
from celery.worker.state import active_requests

from kafka_exec.appconf import has_our_broker
from kafka_exec.backend import KafkaBackend
from kafka_exec.backend.control_plane import ControlPlane, control_plane
from kafka_exec.core.nodes import Work
from kafka_exec.core.topology import nodes_topic
from kafka_exec.kafka.nodes import Node
from kafka_exec.starting import Starter
from kafka_exec.transport.connection import Connection

#: The longest pause between two tries to connect, seconds; Celery's own grows to half a minute.
_RECONNECT_PAUSE = 3

#: What the control plane may take to write what is under way, at the end of the worker, seconds.
_STOP_TIMEOUT = 5.0

#: How often it is looked whether the pool has grown, seconds.
_PUMP = 1.0

Mingle.compatible_transports.add("kafka")
Gossip.compatible_transports.add("kafka")


class Consumer(consumer.Consumer):
    """Celery's consumer, which tries to connect at least every few seconds and keeps what cannot be decoded.

    Its tasks wait for a slot of the pool here, not in the pool, so that what has not begun can still go elsewhere.
    """

    def __init__(self, on_task_request: Any, *args: Any, pool: Any = None, **kwargs: Any) -> None:
        self.starter = Starter(pool, on_task_request)
        super().__init__(self.starter, *args, pool=pool, **kwargs)
        self._pumping = False

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        """Called when a connection is about to be consumed from."""
        deliveries = getattr(self.task_consumer.channel, "deliveries", None)
        if deliveries is not None:
            self.starter.attach(deliveries)
        if not self._pumping:
            self._pumping = True
            # The pool may have grown.
            self.timer.call_repeatedly(_PUMP, self.starter.pump)
        return super().create_task_handler(*args, **kwargs)

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = _impatient(conn.ensure_connection)
        return super().ensure_connected(conn)

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Rejects where Celery acknowledges: the message goes to the dead letters with Celery's own log entry."""
        message.ack = message.reject
        super().on_decode_error(message, exc)


def _impatient(ensure_connection: Any) -> Any:
    def ensure(*args: Any, **kwargs: Any) -> Any:
        return ensure_connection(*args, interval_max=_RECONNECT_PAUSE, **kwargs)

    return ensure


def _work(c: Any) -> Work:
    """What a worker can do, and does."""
    return Work(
        slots=c.pool.num_processes,
        active=len(active_requests),
        queues=tuple(sorted(queue.name for queue in c.task_consumer.queues)) if c.task_consumer else (),
        tasks=tuple(sorted(name for name in c.app.tasks if not name.startswith("celery."))),
    )


class Membership(bootsteps.StartStopStep):
    """The worker as a node: its heartbeats, and its static membership in the groups, so that a restart moves nothing."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        self._node: Node | None = None
        self._control: ControlPlane | None = None
        super().__init__(c, **kwargs)

    def include_if(self, c: Any) -> bool:
        return has_our_broker(c.app.conf)

    def start(self, c: Any) -> None:
        """Called again after every new connection."""
        connection = c.connection.connection
        if not isinstance(connection, Connection):
            return
        space = connection.space
        if self._node is None:
            self._node = Node(c.hostname, space.cluster, nodes_topic(space.topics), lambda: _work(c))
        self._node.start()
        connection.node = self._node
        backend = c.app.backend
        # Only where broker and back end are one: there is nothing to drive otherwise.
        if space.settings.control_plane and isinstance(backend, KafkaBackend) and backend.space is space:
            self._control = self._control or control_plane(backend, self._node)
            self._control.start()

    def stop(self, c: Any) -> None:
        if isinstance(c, Consumer):
            c.starter.stop()

    def shutdown(self, c: Any) -> None:
        self.stop(c)
        if self._control is not None:
            self._control.stop(_STOP_TIMEOUT)
        if self._node is not None:
            self._node.stop()
