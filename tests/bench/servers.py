"""The brokers that are measured: each a process of its own on a free loopback port, with a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import kombu

from kafka_exec.broker import EmbeddedKafka

START_TIMEOUT = 60.0

#: In the environment: workers keep no journal.
UNJOURNALED = "BENCH_UNJOURNALED"


class NoPeer(Exception):
    """A broker that cannot be measured on this machine, and why."""


@dataclass(frozen=True)
class Peer:
    """A running broker: where it is, the transport options with which each publish is confirmed, and where results go.

    Attributes:
        env: what its clients and workers have in their environment.
    """

    name: str
    url: str
    confirmed: dict[str, Any] = field(default_factory=dict)
    carries_messages: bool = True
    results: str | None = None
    env: dict[str, str] = field(default_factory=dict)


@contextmanager
def kafka_exec() -> Iterator[Peer]:
    """Ours, on the embedded Kafka."""
    with EmbeddedKafka() as broker:
        url = f"{broker.url}/bench"
        yield Peer("kafka-exec", url, results=url)


@contextmanager
def unjournaled() -> Iterator[Peer]:
    """Ours, with workers that keep no journal: what it costs."""
    with kafka_exec() as peer:
        yield replace(peer, name="unjournaled", env={UNJOURNALED: "1"})


@contextmanager
def redis() -> Iterator[Peer]:
    """A Redis server without persistence."""
    program = _program("redis-server")
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder, ExitStack() as stack:
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = stack.enter_context(process([program, *options], Path(folder, "log")))
        url = f"redis://127.0.0.1:{port}/0"
        _wait_until_up(url, server, Path(folder, "log"))
        yield Peer("redis", url, results=url)


@contextmanager
def rabbitmq() -> Iterator[Peer]:
    """A RabbitMQ node with a name, a port mapper and a data folder of its own."""
    program, mapper = _program("rabbitmq-server"), _program("epmd")
    # Debian's program in the path is a wrapper that changes the user; what it wraps needs none in particular.
    wrapped = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    with tempfile.TemporaryDirectory(prefix="bench-rabbitmq-") as folder, ExitStack() as stack:
        port, mapper_port = free_port(), free_port()
        environment = {
            "HOME": folder,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(mapper_port),
            "RABBITMQ_NODENAME": f"bench{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_CONFIG_FILE": f"{folder}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
        }
        log = Path(folder, "output")
        stack.enter_context(process([mapper], log, environment))
        server = stack.enter_context(process([str(wrapped) if wrapped.exists() else program], log, environment))
        url = f"amqp://guest:guest@127.0.0.1:{port}//"
        _wait_until_up(url, server, log)
        yield Peer("rabbitmq", url, confirmed={"confirm_publish": True})


@contextmanager
def ceiling() -> Iterator[Peer]:
    """No broker at all: Celery's own ceiling."""
    yield Peer("ceiling", "ceiling://", carries_messages=False)


PEERS: dict[str, Callable[[], AbstractContextManager[Peer]]] = {
    "redis": redis,
    "rabbitmq": rabbitmq,
    "ceiling": ceiling,
}

#: Those that are measured only if they are named.
EXTRA: dict[str, Callable[[], AbstractContextManager[Peer]]] = {"unjournaled": unjournaled}


def free_port() -> int:
    """A loopback port on which nothing listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def process(
    command: list[str], log: Path, environment: dict[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs ``command`` in a process group of its own, which is gone when the block is left."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield started
    finally:
        stop(started)


def stop(started: subprocess.Popen[bytes], patience: float = 20.0) -> None:
    """Asks the process to end, and ends its whole group when it does not."""
    if started.poll() is None:
        started.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NoPeer(f"{name} is not installed")
    return found


def _wait_until_up(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with kombu.Connection(url, connect_timeout=2) as connection:
                connection.connect()
                return
        except connection.connection_errors as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise NoPeer(f"{server.args[0]} did not start ({error}): {log.read_text()[-500:]}") from error
        time.sleep(0.1)
