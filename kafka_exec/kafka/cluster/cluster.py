"""What one process has of one cluster: its shared producer, its log reader, its view of whether the cluster answers.

A librdkafka handle must not be touched in a forked child, not even freed: closing hangs and freeing aborts the process.
So clusters are kept by process id, and a fork moves every inherited handle to a list that is never freed.
"""

from __future__ import annotations

import ctypes
import logging
import os
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.core.cluster.health import Health
from kafka_exec.errors import AccessRefused, ConfigurationError, ConnectionFailed
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import failure, reason_of, remedy

if TYPE_CHECKING:
    from kafka_exec.core.cluster.settings import Settings
    from kafka_exec.kafka.cluster.logreader import LogReader
    from kafka_exec.kafka.cluster.topics import TopicKeeper
    from kafka_exec.kafka.publish.publisher import JournalPublisher, Publisher

logger = logging.getLogger("kafka_exec")

#: For all clients: small and quick to come back. Reconnecting at most a second after a broker is back, not ten.
COMMON: Mapping[str, Any] = {
    "client.id": "kafka_exec",
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 1000,
    "retry.backoff.max.ms": 1000,
    "socket.nagle.disable": True,
    "socket.keepalive.enable": True,
    "socket.timeout.ms": 10000,
    "broker.address.family": "v4",
    "allow.auto.create.topics": False,
    "topic.metadata.refresh.interval.ms": 60000,
    "log.connection.close": False,
}

#: What all consumers have in common.
_CONSUMING = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # By default librdkafka looks only once a second whether a queue of fetched records that was full has room again.
    "fetch.queue.backoff.ms": 10,
}


class _Producer(Producer):  # type: ignore[misc]
    """Can be referred to weakly."""


class _Consumer(Consumer):  # type: ignore[misc]
    """Can be referred to weakly."""


#: Every client that is not freed yet: also one that nobody uses any more, and an exception's traceback keeps.
_alive: weakref.WeakSet[Any] = weakref.WeakSet()


class _Lines:
    """Takes librdkafka's own log lines; they are for whoever debugs it, the news is in :class:`Cluster`'s lines."""

    def log(self, level: int, text: str, *args: object) -> None:
        logger.debug(text, *args)


class Cluster:
    """One cluster as this process sees it. Get it by :func:`cluster`; it connects when first used.

    Args:
        properties: librdkafka properties by which every client is made; they may hold secrets and are never printed.
        settings: the user's choices.
    """

    def __init__(self, properties: Mapping[str, Any], settings: Settings) -> None:
        self.pid = os.getpid()
        self.settings = settings
        self.servers = str(properties["bootstrap.servers"])
        self.health = Health(self.servers)
        self.refused: AccessRefused | None = None
        self.last_error = ""
        #: What rooms above keep by cluster, so that it lives and ends with it.
        self.attachments: dict[str, Any] = {}
        self._properties = {**COMMON, "logger": _Lines(), **properties}
        self._lock = native.lock()
        self._handles: set[Any] = set()
        self._parts: dict[type, Any] = {}
        self._closers: list[Callable[[float], None]] = []
        self._answered = float("-inf")
        self._times_down = 0
        self._told_refusal = False

    def __repr__(self) -> str:
        return f"<Cluster {self.servers}>"

    def _part(self, kind: type) -> Any:
        with self._lock:
            if kind not in self._parts:
                self._parts[kind] = kind(self)
            return self._parts[kind]

    @property
    def publisher(self) -> Publisher:
        """The process's producer."""
        from kafka_exec.kafka.publish.publisher import Publisher

        part: Publisher = self._part(Publisher)
        return part

    @property
    def journal_publisher(self) -> JournalPublisher:
        """The process's producer for journals."""
        from kafka_exec.kafka.publish.publisher import JournalPublisher

        part: JournalPublisher = self._part(JournalPublisher)
        return part

    @property
    def log(self) -> LogReader:
        """The process's one reader of broadcast logs."""
        from kafka_exec.kafka.cluster.logreader import LogReader

        part: LogReader = self._part(LogReader)
        return part

    @property
    def topics(self) -> TopicKeeper:
        """Making, checking and measuring topics."""
        from kafka_exec.kafka.cluster.topics import TopicKeeper

        part: TopicKeeper = self._part(TopicKeeper)
        return part

    def new(self, kind: type[Any], properties: Mapping[str, Any]) -> Any:
        """Makes a librdkafka client; it lives until :meth:`forget`."""
        try:
            handle = kind({**self._properties, "error_cb": self._on_error, **properties})
        except KafkaException as error:
            files = [str(file) for name, file in self._properties.items() if name.endswith(".location")]
            unreadable = [file for file in files if not os.access(file, os.R_OK)]
            text = f"cannot read {', '.join(unreadable)}" if unreadable else error.args[0].str()
            raise ConfigurationError(f"Kafka at {self.servers}: {text}") from None
        self._handles.add(handle)
        _alive.add(handle)
        return handle

    @property
    def largest(self) -> int:
        """How large the value of a record may be for sure that a client takes, in bytes: key and headers count too."""
        return int(self._properties.get("message.max.bytes", 1_000_000)) - 1000

    def new_producer(self, properties: Mapping[str, Any]) -> Producer:
        """A producer with these properties beside the common ones."""
        return self.new(_Producer, properties)

    def new_consumer(self, properties: Mapping[str, Any]) -> Consumer:
        """A consumer with these properties beside the common ones."""
        return self.new(_Consumer, {**_CONSUMING, **properties})

    def new_admin(self) -> AdminClient:
        """A client for administration. Keep it referenced until its futures are done."""
        return self.new(AdminClient, {})

    def forget(self, handle: Any) -> None:
        """Lets a client go that was closed."""
        self._handles.discard(handle)

    def on_close(self, closer: Callable[[float], None]) -> None:
        """Registers what must be done before the process ends; it gets the seconds it may take."""
        self._closers.append(closer)

    def answered(self) -> None:
        """Notes a sign of life of the cluster."""
        self._answered = time.monotonic()
        self.refused = None
        self._told_refusal = False
        if (line := self.health.answered(time.time())) is not None:
            logger.warning(line)

    def silent(self, reason: str) -> None:
        """Notes that no broker answers."""
        if (line := self.health.failed(reason, time.time())) is not None:
            logger.warning(line)

    def _on_error(self, error: KafkaError) -> None:
        code = error.code()
        if failure(error) is Failure.REFUSED:
            self.refused = AccessRefused(f"Kafka at {self.servers} refuses access: {error.str()}: {remedy(error)}")
            if not self._told_refusal:
                self._told_refusal = True
                logger.error(str(self.refused))
        elif code == KafkaError._ALL_BROKERS_DOWN and not self._told_refusal:
            self._times_down += 1
            self.silent(self.last_error or error.str())
        elif code in (KafkaError._TRANSPORT, KafkaError._RESOLVE):
            self.last_error = error.str()

    def connect(self, timeout: float) -> None:
        """Asks the cluster for a sign of life, unless there was one in the last seconds.

        Raises:
            ConnectionFailed: no broker answers within ``timeout`` seconds, or all refuse the connection.
            AccessRefused: the cluster refuses the credentials or the certificate.
        """
        if time.monotonic() - self._answered < 5:
            return
        native.call(self._connect, timeout)

    def _connect(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self.refused = None
        times_down = self._times_down
        reason = ""
        while True:
            try:
                self.publisher.ask(min(0.25, timeout))
                self.answered()
                return
            except KafkaException as error:
                reason = reason_of(error).str()
            if self.refused is not None:
                raise self.refused
            if self._times_down > times_down or time.monotonic() > deadline:
                self.silent(self.last_error or reason)
                raise ConnectionFailed(f"Kafka at {self.servers} does not answer: {self.last_error or reason}")

    def close(self, timeout: float) -> None:
        """Sends what is still to be sent, within ``timeout`` seconds, and ends all threads."""
        deadline = time.monotonic() + timeout
        for closer in reversed(self._closers):
            closer(max(0.1, deadline - time.monotonic()))


_clusters: dict[object, Cluster] = {}
_graveyard: list[object] = []
# One reference more than anybody gives back, so that the interpreter's end does not free what is in it either.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_graveyard))


def cluster(properties: Mapping[str, Any], settings: Settings) -> Cluster:
    """The process's one :class:`Cluster` for these properties and settings."""
    key = (tuple(sorted((name, repr(value)) for name, value in properties.items())), repr(settings))
    found = _clusters.get(key)
    if found is None:
        found = _clusters.setdefault(key, Cluster(properties, settings))
    return found


def close_all(servers: str | None = None, timeout: float = 3.0) -> None:
    """Ends this process's clients: for its exit, or before the cluster with these ``bootstrap.servers`` is stopped."""
    for key, found in list(_clusters.items()):
        if servers in (None, found.servers):
            del _clusters[key]
            found.close(timeout)


def flush_all(timeout: float = 3.0) -> None:
    """Sends what is still to be sent; for the exit of a pool's child, which runs no exit handlers."""
    for found in list(_clusters.values()):
        found.publisher.flush(timeout)


def _after_fork_in_child() -> None:
    global _clusters
    _graveyard.extend((_clusters, *_alive))
    _clusters = {}


os.register_at_fork(after_in_child=_after_fork_in_child)
