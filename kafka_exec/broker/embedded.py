"""The embedded broker: a real Apache Kafka on loopback addresses, for development and tests."""

from __future__ import annotations

import os
import signal
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kafka_exec.broker import folder, ports, settings
from kafka_exec.broker.errors import BrokerError, BrokerNotRunning, PortUnavailable
from kafka_exec.broker.install import archive, java
from kafka_exec.broker.install.distribution import Progress, libraries
from kafka_exec.broker.node import BrokerNode
from kafka_exec.broker.security import INTERNAL_NAME, Secured
from kafka_exec.kafka.cluster.cluster import close_all

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

#: The nodes must answer, and end, within these times, seconds. A broker that makes the start-up archive takes longer to end.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
TRAINING_TIMEOUT = 120.0

#: So many free ports are tried.
PORT_ATTEMPTS = 3


class EmbeddedKafka:
    """A Kafka cluster of Java processes that end, at the latest, with this process.

    Use it as a context manager, or call :meth:`start` and :meth:`close`. A cluster that was stopped or killed, whole or in
    part, can be started again with the same data and ports.

    Args:
        data_dir: the folder of the data; None: a temporary folder that :meth:`close` removes.
        port: the port on which each node listens, on 127.0.0.1, 127.0.0.2, …; None: a free one.
        nodes: the number of nodes, from 1 to 9; each is both broker and controller.
        security: None, or "sasl" for SCRAM passwords over TLS with access rules: users may do nothing before :meth:`allow`.
        heap: the heap of each Java process, MB.
        java_options: more options for Java; with any, the start-up archive (archive.py) is not used.
        on_progress: called with the name of a step, the number of its parts that are done, and of all its parts.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        port: int | None = None,
        nodes: int = 1,
        security: str | None = None,
        *,
        heap: int = 384,
        java_options: tuple[str, ...] = (),
        on_progress: Progress | None = None,
    ) -> None:
        if security not in (None, "sasl"):
            raise ValueError(f'security is None or "sasl", not {security!r}')
        if not 1 <= nodes <= 9:
            raise ValueError(f"nodes is a number from 1 to 9, not {nodes}")
        self._wanted_folder = None if data_dir is None else Path(data_dir).absolute()
        self._wanted_port = port
        self._hosts = [ports.host_of(node) for node in range(nodes)]
        self._is_secured = security is not None
        self._java_options = (f"-Xmx{heap}m", *java_options)
        self._use_archive = not java_options
        self._archive: tuple[str, ...] = ()
        self._on_progress: Progress = on_progress or (lambda step, done, total: None)
        self._folder: Path | None = None
        self._nodes: list[BrokerNode] = []
        self._remove: Callable[[], object] = lambda: None

    def __enter__(self) -> EmbeddedKafka:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = self.bootstrap_servers if self._nodes else "not started"
        return f"<EmbeddedKafka {where}{' secured' if self._is_secured else ''}>"

    @property
    def data_dir(self) -> Path:
        """The folder of the data, the configuration and the logs.

        Raises:
            BrokerNotRunning: the broker was never started.
        """
        if self._folder is None:
            raise BrokerNotRunning
        return self._folder

    @property
    def port(self) -> int:
        """The port on which the nodes listen.

        Raises:
            BrokerNotRunning: the broker was never started.
        """
        return self._node(0).address.port

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all nodes, for clients: ``HOST:PORT,…``.

        Raises:
            BrokerNotRunning: the broker was never started.
        """
        return ",".join(f"{host}:{self.port}" for host in self._hosts)

    @property
    def url(self) -> str:
        """The broker URL for Celery, without user and password.

        Raises:
            BrokerNotRunning: the broker was never started.
        """
        return f"{'kafka-execs' if self._is_secured else 'kafka-exec'}://{','.join(self._hosts)}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The certificate that clients of a secured cluster must trust."""
        return self._secured().ca_file

    def running(self, node: int = 0) -> bool:
        """True if a node's process lives."""
        return bool(self._nodes) and self._node(node).running

    def pid(self, node: int = 0) -> int:
        """The process id of a node's Java process.

        Raises:
            BrokerNotRunning: the process does not live.
        """
        return self._node(node).pid

    def log_file(self, node: int = 0) -> Path:
        """The log file of a node's last start."""
        return self._node(node).log_file

    def start(self, node: int | None = None) -> None:
        """Starts all nodes that do not run, or one node, and returns when they answer requests.

        Raises:
            BrokerError: a node could not be started; the subclass and message say who must act. The nodes that this call has
                started are ended.
        """
        runtime = java.find_java()
        jars = libraries(self._on_progress)
        if self._use_archive:
            self._use_archive = False
            self._archive = tuple(archive.options(jars, runtime, _train, self._on_progress))
        if self._nodes:
            return self._start(self._nodes if node is None else [self._node(node)], runtime, jars)
        self._folder = folder.prepare(self._wanted_folder)
        if self._wanted_folder is None:
            self._remove = weakref.finalize(self, folder.remove, self._folder, os.getpid())
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                addresses = ports.choose(self._hosts, self._wanted_port)
                self._nodes = [
                    BrokerNode(number, self._folder / f"node-{number}", address)
                    for number, address in enumerate(addresses)
                ]
                return self._start(self._nodes, runtime, jars)
            except BaseException as error:
                self._nodes = []
                # Between the choice of a free port and its use another program may have taken it.
                if isinstance(error, PortUnavailable) and self._wanted_port is None and attempt < PORT_ATTEMPTS:
                    continue
                self._remove()
                raise

    def stop(self, node: int | None = None, timeout: float = STOP_TIMEOUT) -> None:
        """Ends all nodes or one node cleanly, with SIGKILL after ``timeout`` seconds; the data stays."""
        stopping = [each for each in (self._nodes if node is None else [self._node(node)]) if each.running]
        for each in stopping:
            with suppress(BrokerNotRunning):
                # In the other order a paused process would never see the first signal.
                each.signal(signal.SIGTERM)
                each.signal(signal.SIGCONT)
        deadline = time.monotonic() + timeout
        for each in stopping:
            if not each.wait(max(0.0, deadline - time.monotonic())):
                each.kill()

    def kill(self, node: int = 0) -> None:
        """Ends one node with SIGKILL and returns when it is gone; the data stays."""
        self._node(node).kill()

    def pause(self, node: int = 0) -> None:
        """Pauses one node's process (SIGSTOP); returns when it has stopped. Its connections stay, and it answers nothing."""
        self._node(node).signal(signal.SIGSTOP)

    def resume(self, node: int = 0) -> None:
        """Lets a paused node go on (SIGCONT)."""
        self._node(node).signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends this process's clients of the cluster, all nodes, and removes a temporary folder."""
        if self._nodes:
            close_all(self.bootstrap_servers)
        if self._wanted_folder is None:
            for node in self._nodes:
                node.kill()
            self._nodes, self._folder = [], None
            self._remove()
        else:
            self.stop()

    def admin(self) -> AdminClient:
        """An admin client that may do everything. Keep the client until the futures that it has returned are done.

        Raises:
            BrokerNotRunning: the broker was never started.
        """
        from confluent_kafka.admin import AdminClient

        if not self._nodes:
            raise BrokerNotRunning
        return AdminClient(self._admin_config(self._nodes))

    def add_user(self, name: str, password: str) -> None:
        """Adds a user, or changes a user's password, for SCRAM-SHA-512 and SCRAM-SHA-256. A new user may do nothing yet."""
        from kafka_exec.broker import access

        self._secured()
        if name == INTERNAL_NAME:
            raise ValueError(f"the user name {name} is taken by the broker itself")
        access.add_user(self.admin(), name, password)

    def allow(
        self, user: str, operation: str = "all", resource: str = "topic", name: str = "*", *, prefix: bool = False
    ) -> None:
        """Adds an access rule that allows a user an operation; returns when the rule is in force.

        Args:
            operation: one of Kafka's ACL operations: all, read, write, create, describe, …
            resource: topic, group, transactional_id or cluster (which has no name).
            name: the name of the resource; "*": any.
            prefix: the rule is for all resources whose names begin with ``name``.
        """
        from kafka_exec.broker import access

        self._secured()
        access.allow(self.admin(), user, operation, resource, name, prefix)

    def client_config(
        self, user: str | None = None, password: str | None = None, mechanism: str = "SCRAM-SHA-512"
    ) -> dict[str, str]:
        """librdkafka's properties for a client; user and password are for a secured cluster."""
        servers = {"bootstrap.servers": self.bootstrap_servers}
        if not self._is_secured:
            return servers
        if user is None or password is None:
            raise ValueError("a secured cluster needs a user and a password")
        return {**servers, **self._secured().client(user, password, mechanism)}

    def _node(self, number: int) -> BrokerNode:
        if not self._nodes:
            raise BrokerNotRunning
        return self._nodes[number]

    def _secured(self) -> Secured:
        if not self._is_secured:
            raise BrokerError('this embedded broker is not secured: make it with security="sasl"')
        return Secured(self.data_dir / "security")

    def _start(self, nodes: list[BrokerNode], runtime: Path, jars: Path) -> None:
        nodes = [node for node in nodes if not node.running]
        self._on_progress("format", 0, len(nodes))
        try:
            for node in nodes:
                node.claim()
                ports.check(node.address.host, node.address.port)
            self._format(nodes, runtime, jars)
            self._on_progress("start", 0, len(nodes))
            deadline = time.monotonic() + START_TIMEOUT
            options = (*self._java_options, *self._archive)
            for node in nodes:
                node.launch(runtime, jars, options, remove=None if self._wanted_folder else self._folder)
            for done, node in enumerate(nodes, 1):
                node.wait_for_socket(deadline)
                self._wait_for_answer(node, deadline)
                self._on_progress("start", done, len(nodes))
        except BaseException:
            for node in nodes:
                node.kill()
                node.release()
            raise

    def _format(self, nodes: list[BrokerNode], runtime: Path, jars: Path) -> None:
        cluster = folder.cluster_id(self.data_dir, len(self._hosts), self._is_secured)
        secured = self._secured() if self._is_secured else None
        if secured:
            secured.create(self._hosts)
        addresses = [node.address for node in self._nodes]
        for node in nodes:
            node.configure(settings.properties(node.number, addresses, node.data, secured))
        with ThreadPoolExecutor(len(self._nodes)) as pool:
            list(pool.map(lambda node: node.format(runtime, jars, self._archive, cluster), nodes))

    def _wait_for_answer(self, node: BrokerNode, deadline: float) -> None:
        """Waits until the node itself names itself as a part of the cluster: then it takes requests of all kinds.

        Raises:
            BrokerStartFailed, PortUnavailable: the node has ended, or the time is over.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient(self._admin_config([node]))
        while True:
            node.check_alive(deadline)
            with suppress(KafkaException):
                if node.number in admin.list_topics(timeout=1).brokers:
                    break
            time.sleep(0.02)
        while len(self._nodes) == 1:
            # The first question about a group makes Kafka's offsets topic: the first consumer need not wait for that.
            node.check_alive(deadline)
            with suppress(KafkaException):
                admin.describe_consumer_groups(["kafka_exec.start"], request_timeout=1)["kafka_exec.start"].result()
                return
            time.sleep(0.02)

    def _admin_config(self, nodes: list[BrokerNode]) -> dict[str, Any]:
        secured = self._secured() if self._is_secured else None
        servers = ",".join(
            f"{node.address.host}:{node.address.internal if secured else node.address.port}" for node in nodes
        )
        quiet = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}
        return {"bootstrap.servers": servers, **quiet, **(secured.internal_client() if secured else {})}


def _train(options: tuple[str, ...]) -> None:
    trainee = EmbeddedKafka(java_options=options)
    try:
        trainee.start()
        trainee.stop(timeout=TRAINING_TIMEOUT)
    finally:
        trainee.close()
