"""The worker as a member: its node in the registry, its static membership in the groups, its share of the control plane."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.exceptions import ImproperlyConfigured
from celery.worker import state as worker_state
from celery.worker.consumer.gossip import Gossip
from celery.worker.consumer.mingle import Mingle

from kafka_exec.backend import KafkaBackend
from kafka_exec.backend.control_plane import ControlPlane, control_plane
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.core.nodes.heartbeat import Load
from kafka_exec.core.worker.versions import capabilities
from kafka_exec.kafka.client.complaints import faults
from kafka_exec.kafka.control.delays import Delays
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.nodes.share import Share
from kafka_exec.settings.appconf import has_our_broker
from kafka_exec.settings.inventory import in_force, versions
from kafka_exec.transport.connection import Connection
from kafka_exec.transport.revoked import Revoked
from kafka_exec.worker.consumer import Consumer
from kafka_exec.worker.sharing import Sharing

#: The control plane may take so long to end its transactions at the end of the worker, seconds.
_STOP_TIMEOUT = 5.0

Mingle.compatible_transports.add("kafka")
Gossip.compatible_transports.add("kafka")


def _work(c: Any) -> Load:
    """A worker's report for its heartbeats: its slots, running tasks, queues and known tasks."""
    return Load(
        slots=c.pool.num_processes,
        active=len(worker_state.active_requests),
        queues=tuple(sorted(queue.name for queue in c.task_consumer.queues)) if c.task_consumer else (),
        tasks=tuple(sorted(each for each in capabilities(c.app.tasks.values()) if not each.startswith("celery."))),
    )


class Membership(bootsteps.StartStopStep):
    """The worker as a node: its heartbeats, and its static membership in the groups, so that restarts move no partition."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        self._node: Node | None = None
        self._shares: list[Share[Any] | ControlPlane] = []
        super().__init__(c, **kwargs)

    def include_if(self, c: Any) -> bool:
        """True if the worker's broker is kafka-exec.

        Raises:
            ImproperlyConfigured: it is, and the worker's consumer is not of kafka_exec: the journal would lack its tasks.
        """
        if not has_our_broker(c.app.conf):
            return False
        if not isinstance(c, Consumer):
            raise ImproperlyConfigured(
                f"worker_consumer is {type(c).__module__}:{type(c).__name__}: with kafka-exec:// it must be "
                "kafka_exec.worker:Consumer, or a class derived from it"
            )
        return True

    def info(self, c: Any) -> dict[str, Any]:
        """The facts that ``celery inspect stats`` shows: versions, settings, errors, and how far the clock is ahead."""
        connection = getattr(c.connection, "connection", None)
        if not isinstance(connection, Connection):
            return {}
        return {
            "kafka_exec": {
                "versions": versions(),
                "settings": in_force(connection.space.settings),
                "faults": faults().facts(),
                "clock_ahead": None if self._node is None else self._node.clock_ahead,
            }
        }

    def start(self, c: Any) -> None:
        """Starts the node and its shares. Celery calls it again after every new connection."""
        connection = c.connection.connection
        if not isinstance(connection, Connection):
            return
        space = connection.space
        if self._node is None:
            self._node = Node(c.hostname, space.cluster, nodes_topic(space.topics), lambda: _work(c), kind="worker")
        self._node.start()
        connection.node = c.node = self._node
        connection.on_fault = c.on_fault
        if c.revoked is None:
            revoked = Revoked(space)
            revoked.load()
            c.revoked = revoked
        c.sharing = Sharing(c.app, c.starter, self._node, connection)
        if space.settings.control_plane and not self._shares:
            c.delays = Delays(space.cluster, space.topics, self._node)
            shares: list[Share[Any] | ControlPlane] = [c.delays]
            backend = c.app.backend
            # Only if broker and back end are one: otherwise there are no chords to drive.
            if isinstance(backend, KafkaBackend) and backend.space is space:
                c.control_plane = control_plane(backend, self._node)
                shares.append(c.control_plane)
            self._shares = shares
        for share in self._shares:
            share.start()

    def stop(self, c: Any) -> None:
        c.starter.stop()

    def shutdown(self, c: Any) -> None:
        self.stop(c)
        for share in self._shares:
            share.stop(_STOP_TIMEOUT)
        if self._node is not None:
            self._node.stop()
