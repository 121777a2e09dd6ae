"""``celery kafka api``: the HTTP API of the application, in a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import socket

import click


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=9809, show_default=True, help="0: any free one.")
@click.option("--read-only", is_flag=True, help="Refuse all acts.")
@click.pass_context
def api(context: click.Context, host: str, port: int, read_only: bool) -> None:
    """Serve the HTTP API of tasks, queues and nodes.

    Its users have tokens, which kafka_exec_api_tokens names; without any it answers only this machine.

    \b
    Example: celery -A shop kafka api --read-only
    """
    from kafka_exec.api import application
    from kafka_exec.api.access import is_local
    from kafka_exec.settings.options import api_tokens

    app = context.obj.app
    served = application(app, read_only=read_only)
    if not api_tokens(app.conf):
        if not is_local(host):
            raise click.ClickException(
                f"{host} is not of this machine alone: set kafka_exec_api_tokens to listen there"
            )
        click.echo("No kafka_exec_api_tokens are set: everybody on this machine may use it", err=True)

    try:
        import uvicorn
    except ModuleNotFoundError:
        raise click.ClickException("the server of the API needs uvicorn: install kafka_exec[api]") from None

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kafka_exec").setLevel(logging.WARNING)
    logging.getLogger("kafka_exec.api").setLevel(logging.INFO)
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}") from None
    with listening:
        address = f"[{host}]" if ":" in host else host
        click.echo(f"Serving the API on http://{address}:{listening.getsockname()[1]}/api/kafka. Stop it with Ctrl-C.")
        # Uvicorn raises the signal that has stopped it again, for who had it before.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        uvicorn.Server(uvicorn.Config(served, access_log=False, log_config=None, server_header=False)).run([listening])
