"""`celery kafka control-plane`: the control plane in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import threading

import click

from kafka_exec.cli.common import result_backend, told, verbose_option

#: What writing may take that is under way at the end, seconds.
STOP_TIMEOUT = 10.0


@click.command("control-plane")
@verbose_option
@click.pass_context
def control_plane(context: click.Context, verbose: bool) -> None:
    """Drive the control plane (chords), alone or beside workers, until Ctrl-C."""
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    with told(verbose):
        from kafka_exec.backend.control_plane import control_plane as make
        from kafka_exec.core.topology import nodes_topic
        from kafka_exec.kafka.nodes import Node

        backend = result_backend(context)
        space = backend.space
        node = Node(f"control-plane-{os.getpid()}@{socket.gethostname()}", space.cluster, nodes_topic(space.topics))
        processor = make(backend, node)
        processor.start()
        click.echo(f"Driving the control plane of {backend.as_uri()}. Stop it with Ctrl-C.")
        ending.wait()
        processor.stop(STOP_TIMEOUT)
        node.stop()
