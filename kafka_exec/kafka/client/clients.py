"""The librdkafka clients of one process for one cluster: they are made here, and tell if the cluster answers.

A librdkafka handle must not be touched in a forked child, not even freed: closing hangs and freeing aborts the process.
So a fork moves every inherited handle to a list that is never freed.
"""

from __future__ import annotations

import ctypes
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.core.cluster.health import Health
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.errors import AccessRefused, ConfigurationError
from kafka_exec.kafka.client.failures import failure, remedy

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

#: The properties that all consumers have in common.
_CONSUMING = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # By default librdkafka looks only once a second if a queue of fetched records that was full has room again.
    "fetch.queue.backoff.ms": 10,
}


#: The bytes that librdkafka counts for a record beside its key, value and headers.
_OVERHEAD = 36

Headers = Iterable[tuple[str, "bytes | None"]]


def _length(text: str | bytes | None) -> int:
    return len(text.encode() if isinstance(text, str) else text or b"")


class _Producer(Producer):  # type: ignore[misc]
    """A producer that can be referred to weakly."""


class _Consumer(Consumer):  # type: ignore[misc]
    """A consumer that can be referred to weakly."""


#: Every client that is not freed yet, also an unused one that an exception's traceback keeps.
_alive: weakref.WeakSet[Any] = weakref.WeakSet()


class _Lines:
    """Takes librdkafka's own log lines. They are for debugging it; for operators there are those of :class:`Clients`."""

    def log(self, level: int, text: str, *args: object) -> None:
        logger.debug(text, *args)


class Clients:
    """Makes the clients of one cluster, and hears from them if it answers.

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
        #: The number of times that no broker could be reached.
        self.times_down = 0
        #: The time of the cluster's last sign of life, by the monotonic clock.
        self.answered_at = float("-inf")
        self._properties = {**COMMON, "logger": _Lines(), **properties}
        self._most = int(self._properties.get("message.max.bytes", 1_000_000))
        self._handles: set[Any] = set()
        self._closers: list[Callable[[float], None]] = []
        self._on_refused_topic: list[Callable[[str], None]] = []
        self._told_refusal = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.servers}>"

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
        """The largest value of a record that a client surely takes, in bytes; its key and headers count too."""
        return self._most - 1000

    def check_size(self, value: bytes | None, key: str | bytes | None, headers: Headers = ()) -> None:
        """Refuses a record that librdkafka would refuse for its size, unless it is only a few bytes too large.

        An error that the client library (confluent-kafka 2.16) raises while another error is handled keeps the other one for
        ever, with its frames and all that their variables hold.

        Raises:
            KafkaException: its code is MSG_SIZE_TOO_LARGE.
        """
        size = _OVERHEAD + _length(value) + _length(key)
        size += sum(_length(name) + _length(content) for name, content in headers)
        if size > self._most:
            reason = f"the message is too large: of its {size} bytes message.max.bytes allows {self._most}"
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, reason))

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
        """Forgets a client that was closed."""
        self._handles.discard(handle)

    def on_close(self, closer: Callable[[float], None]) -> None:
        """Registers a function that is called before the process ends; it gets the seconds that it may take."""
        self._closers.append(closer)

    def on_refused_topic(self, listener: Callable[[str], None]) -> None:
        """Registers a listener for topics that have not taken a record: its knowledge of such a topic may be old."""
        self._on_refused_topic.append(listener)

    def topic_refused(self, topic: str) -> None:
        """Notes that a topic has not taken a record."""
        for listener in self._on_refused_topic:
            listener(topic)

    def answered(self) -> None:
        """Notes a sign of life of the cluster."""
        self.answered_at = time.monotonic()
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
            self.times_down += 1
            self.silent(self.last_error or error.str())
        elif code in (KafkaError._TRANSPORT, KafkaError._RESOLVE):
            self.last_error = error.str()

    def close(self, timeout: float) -> None:
        """Sends the records that wait to be sent, within ``timeout`` seconds, and ends all threads."""
        deadline = time.monotonic() + timeout
        for closer in reversed(self._closers):
            closer(max(0.1, deadline - time.monotonic()))


_graveyard: list[object] = []
# One reference more than is ever given back, so that the interpreter's end does not free the clients in it either.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_graveyard))


def bury(*inherited: object) -> None:
    """Keeps for ever, in a forked child, these objects that it has inherited, and every client that was alive."""
    _graveyard.extend((*inherited, *_alive))
