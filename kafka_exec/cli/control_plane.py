"""``celery kafka control-plane``: the control plane in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import Any

import click

#: The end of the open transactions may take so long, seconds.
STOP_TIMEOUT = 10.0


@click.command("control-plane")
@click.pass_context
def control_plane(context: click.Context) -> None:
    """Drive the control plane (chords, delayed tasks), alone or beside workers, until Ctrl-C."""
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    nodes, shares, urls = _parts(context)
    for share in shares:
        share.start()
    click.echo(f"Driving the control plane of {' and '.join(urls)}. Stop it with Ctrl-C.")
    ending.wait()
    for share in shares:
        share.stop(STOP_TIMEOUT)
    for node in nodes:
        node.stop()


def _parts(context: click.Context) -> tuple[list[Any], list[Any], list[str]]:
    """The nodes, their shares, and the URLs of what they drive: delayed messages are the broker's, chords the back end's.

    Raises:
        ConfigurationError: neither broker nor back end is kafka-exec.
    """
    from kafka_exec.backend import KafkaBackend
    from kafka_exec.backend.control_plane import control_plane as chords
    from kafka_exec.core.cluster.topology import nodes_topic
    from kafka_exec.kafka.control.delays import Delays
    from kafka_exec.kafka.nodes.node import Node
    from kafka_exec.operations.tasks import result_backend
    from kafka_exec.settings.appconf import broker_home, has_our_broker

    app = context.obj.app
    nodes: dict[Any, Any] = {}
    shares: list[Any] = []
    urls = {}

    def node_of(space: Any) -> Any:
        name = f"control-plane-{os.getpid()}@{socket.gethostname()}"
        return nodes.setdefault(space, Node(name, space.cluster, nodes_topic(space.topics), kind="control-plane"))

    if has_our_broker(app.conf):
        space = broker_home(app)
        shares.append(Delays(space.cluster, space.topics, node_of(space)))
        urls[space] = app.connection_for_write().as_uri()
    if not shares or isinstance(app.backend, KafkaBackend):
        backend = result_backend(app)
        shares.append(chords(backend, node_of(backend.space)))
        urls[backend.space] = backend.as_uri()
    return list(nodes.values()), shares, list(urls.values())
