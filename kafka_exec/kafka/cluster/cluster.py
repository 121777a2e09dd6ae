"""One cluster as one process sees it: its clients, with the producers, the log reader and the topics that stand on them.

Clusters are kept by process: a forked child begins without any (see :mod:`kafka_exec.kafka.client.clients`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaException

from kafka_exec.core.cluster.settings import Settings
from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.client import clients, native
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.client.failures import reason_of
from kafka_exec.kafka.cluster.logreader import LogReader
from kafka_exec.kafka.cluster.topics import TopicKeeper
from kafka_exec.kafka.publish.publisher import JournalPublisher, Publisher

T = TypeVar("T")


class Cluster(Clients):
    """One cluster as this process sees it. Get it by :func:`cluster`; it connects when first used."""

    def __init__(self, properties: Mapping[str, Any], settings: Settings) -> None:
        super().__init__(properties, settings)
        #: Objects of other folders, by a name, that live and end with this cluster.
        self.attachments: dict[str, Any] = {}
        self._lock = native.lock()
        self._parts: dict[Any, Any] = {}

    def _part(self, kind: Callable[..., T], *args: Any) -> T:
        with self._lock:
            if kind not in self._parts:
                self._parts[kind] = kind(self, *args)
            part: T = self._parts[kind]
            return part

    @property
    def publisher(self) -> Publisher:
        """The process's producer."""
        return self._part(Publisher)

    @property
    def journal_publisher(self) -> JournalPublisher:
        """The process's producer for journals."""
        return self._part(JournalPublisher)

    @property
    def log(self) -> LogReader:
        """The process's one reader of broadcast logs."""
        return self._part(LogReader)

    @property
    def topics(self) -> TopicKeeper:
        """The process's keeper of topics: makes, checks and measures them."""
        publisher = self.publisher
        return self._part(TopicKeeper, publisher.metadata)

    def connect(self, timeout: float) -> None:
        """Asks the cluster for a sign of life, unless there was one in the last seconds.

        Raises:
            ConnectionFailed: no broker answers within ``timeout`` seconds, or all refuse the connection.
            AccessRefused: the cluster refuses the credentials or the certificate.
        """
        if time.monotonic() - self.answered_at < 5:
            return
        native.call(self._connect, timeout)

    def _connect(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self.refused = None
        times_down = self.times_down
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
            if self.times_down > times_down or time.monotonic() > deadline:
                self.silent(self.last_error or reason)
                raise ConnectionFailed(f"Kafka at {self.servers} does not answer: {self.last_error or reason}")

    def ask_again(self, consumer: Consumer, topic: str) -> None:
        """Asks a cluster that was silent for a sign of life, by a client that the caller's thread uses."""
        try:
            consumer.list_topics(topic, 0.5)
        except KafkaException as error:
            self.silent(self.last_error or reason_of(error).str())
        else:
            self.answered()


_clusters: dict[object, Cluster] = {}


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
    """Sends the records that wait to be sent; for the exit of a pool's child, which runs no exit handlers."""
    for found in list(_clusters.values()):
        found.publisher.flush(timeout)


def _after_fork_in_child() -> None:
    global _clusters
    clients.bury(_clusters)
    _clusters = {}


os.register_at_fork(after_in_child=_after_fork_in_child)
