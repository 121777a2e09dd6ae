"""``celery kafka broker``: the embedded broker in the foreground."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kafka_exec.broker import EmbeddedKafka

DEMO_USER = "demo"
POLL = 0.5
STEPS = {
    "download": "Downloading Kafka (46 MB, this once)",
    "archive": "Making Kafka start faster from now on (10 s, this once)",
    "format": "Preparing the data folder",
    "start": "Starting Kafka",
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder to keep the data in [default: a temporary one].")
@click.option("--port", type=click.IntRange(1, 65535), default=9092, show_default=True, help="Where to listen.")
@click.option("--nodes", type=click.IntRange(1, 9), default=1, show_default=True, help="How many nodes.")
@click.option("--secure", is_flag=True, help="SASL/SCRAM over TLS, access rules and a demo user.")
def broker(data: Path | None, port: int, nodes: int, secure: bool) -> None:
    """Run a real Apache Kafka on this machine, for development.

    It listens on loopback addresses only and runs until Ctrl-C or SIGTERM.
    """
    from kafka_exec.broker import BrokerError, EmbeddedKafka

    ending = threading.Event()
    started = False

    def end(signal_number: int, frame: object) -> None:
        ending.set()
        if not started:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    kafka = EmbeddedKafka(data, port, nodes, "sasl" if secure else None, on_progress=_show_progress)
    try:
        try:
            kafka.start()
            started = True
            _introduce(kafka, data, secure)
            while not ending.is_set() and all(kafka.running(node) for node in range(nodes)):
                ending.wait(POLL)
            if not ending.is_set():
                raise BrokerError(f"Kafka ended by itself: see {kafka.log_file()}")
        finally:
            started = True
            if ending.is_set():
                click.echo("Stopping.")
            kafka.stop()
            kafka.close()
    except KeyboardInterrupt:
        return
    except BrokerError as error:
        summary, _, details = str(error).partition("\n")
        raise click.ClickException(f"{summary}{' (--verbose shows it)' if details else ''}") from error


def _show_progress(step: str, done: int, total: int) -> None:
    if done == 0:
        click.echo(f"{STEPS[step]} ...")
    elif step == "download" and (done == total or done % 10 == 0):
        click.echo(f"  {done} of {total} files")


def _introduce(kafka: EmbeddedKafka, data: Path | None, secure: bool) -> None:
    """Prints how to use the broker, and how to end it. Scripts wait for the line that begins with ``Broker URL:``."""
    if secure:
        password_file = _add_demo_user(kafka)
        click.echo(f"User: {DEMO_USER}, password in {password_file}")
        click.echo(f"Certificate to trust: {kafka.ca_file}")
    kept = "kept" if data else "removed at the end"
    click.echo(f"Data in {kafka.data_dir} ({kept}), log in {kafka.log_file()}")
    click.echo(f"Broker URL: {kafka.url}")
    click.echo("Stop it with Ctrl-C.")


def _add_demo_user(kafka: EmbeddedKafka) -> Path:
    """Adds the demo user, who may do everything with topics, groups and transactions; returns the password's file."""
    path = kafka.data_dir / "demo-password"
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(18))
    kafka.add_user(DEMO_USER, path.read_text())
    for resource in ("topic", "group", "transactional_id", "cluster"):
        kafka.allow(DEMO_USER, "all", resource)
    return path
