"""``celery kafka exporter``: the metrics of queues, nodes and tasks for Prometheus, from the topics alone."""

from __future__ import annotations

import signal
import threading

import click


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=9808, show_default=True, help="0: any free one.")
@click.pass_context
def exporter(context: click.Context, host: str, port: int) -> None:
    """Serve metrics of queues, nodes and tasks to Prometheus.

    It reads Kafka, so it is right also if no worker lives. What tasks come to is counted from its start on.
    """
    try:
        from prometheus_client import start_http_server
    except ImportError:
        raise click.ClickException("the exporter needs prometheus_client: install kafka_exec[metrics]") from None

    from kafka_exec.operations.metrics import metrics

    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    with metrics(context.obj.app) as registry:
        server, thread = start_http_server(port, host, registry)
        click.echo(f"Serving metrics on http://{host}:{server.server_port}/metrics. Stop it with Ctrl-C.")
        ending.wait()
        server.shutdown()
        thread.join()
