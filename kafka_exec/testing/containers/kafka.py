"""Kafka as a container of pytest-celery, which is broker and result back end of a test."""

from __future__ import annotations

import gc
import json
from typing import Any
from urllib.parse import urlencode

from celery.result import AsyncResult
from confluent_kafka.admin import AdminClient
from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestContainer

from kafka_exec.broker.install.distribution import KAFKA_VERSION
from kafka_exec.broker.ports import choose, host_of
from kafka_exec.kafka.cluster.cluster import close_all
from kafka_exec.testing.brokers import PARTITIONS

#: The image, of which other containers are recognised too that run Kafka.
IMAGE = "apache/kafka"

#: Where it says how it can be reached, from other containers and from the tests.
ADVERTISED = "KAFKA_ADVERTISED_LISTENERS"
INSIDE, OUTSIDE = "INSIDE", "OUTSIDE"

#: The port of the listener for the tests, in the container.
_PORT = 9094


def advertised(inside: str, outside: str) -> str:
    """The value of :data:`ADVERTISED`, from two addresses as ``host:port``."""
    return f"{INSIDE}://{inside},{OUTSIDE}://{outside}"


def prefix_of(container: str) -> str:
    """The prefix of the topics of a container, by its id."""
    return f"c{container[:12]}"


#: Kafka's log says so when it is ready.
READY = "Kafka Server started"


class KafkaContainer(CeleryTestContainer):  # type: ignore[misc]
    """A Kafka of one node. Each container has a prefix of its own, so that several may be one Kafka."""

    @property
    def client(self) -> AdminClient:
        """An administrative client."""
        return AdminClient({"bootstrap.servers": self._address(OUTSIDE)})

    @property
    def celeryconfig(self) -> dict[str, Any]:
        """The settings that pytest-celery gives the application and the workers."""
        host, _, port = self._address(OUTSIDE).rpartition(":")
        return {
            "url": self.url,
            "host_url": self.host_url,
            "hostname": host,
            "port": int(port),
            "vhost": self.vhost,
        }

    @property
    def url(self) -> str:
        """The URL for other containers."""
        return self._url(INSIDE)

    @property
    def host_url(self) -> str:
        """The URL for the tests."""
        return self._url(OUTSIDE)

    @property
    def vhost(self) -> str:
        """The prefix of all topics."""
        return prefix_of(self.id)

    def teardown(self) -> None:
        """Ends this process's clients: they would look for a Kafka that is gone."""
        close_all(self._address(OUTSIDE))

    def _url(self, listener: str) -> str:
        query = urlencode({"partitions": json.dumps(PARTITIONS)})
        return f"{self.prefix()}{self._address(listener)}/{self.vhost}?{query}"

    def _address(self, listener: str) -> str:
        listeners = dict(each.split("://") for each in self.env[ADVERTISED].split(","))
        return str(listeners[listener])

    @classmethod
    def version(cls) -> str:
        """The version of Kafka."""
        return KAFKA_VERSION

    @classmethod
    def image(cls) -> str:
        """The image of Apache's."""
        return f"{IMAGE}:{cls.version()}"

    @classmethod
    def prefix(cls) -> str:
        """The begin of the URLs."""
        return "kafka-exec://"

    @classmethod
    def ports(cls) -> dict[str, int]:
        """A port for the tests. Kafka tells clients where it is, so that must be known before it starts."""
        return {f"{_PORT}/tcp": choose([host_of(0)], None)[0].port}

    @classmethod
    def initial_env(cls, name: str, ports: dict[str, int]) -> dict[str, str]:
        """The variables of the container. ``name``: by which other containers know it; ``ports``: as in :meth:`ports`."""
        return {
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENERS": f"{INSIDE}://:9092,{OUTSIDE}://:{_PORT},CONTROLLER://localhost:9093",
            ADVERTISED: advertised(f"{name}:9092", f"localhost:{ports[f'{_PORT}/tcp']}"),
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": f"{INSIDE}:PLAINTEXT,{OUTSIDE}:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "KAFKA_INTER_BROKER_LISTENER_NAME": INSIDE,
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        }

    @property
    def ready_prompt(self) -> str:
        """The line of the log by which it says that it is ready."""
        return READY


class KafkaTestBroker(CeleryTestBroker):  # type: ignore[misc]
    """Kafka as the broker of a test."""


class KafkaTestBackend(CeleryTestBackend):  # type: ignore[misc]
    """Kafka as the result back end of a test."""

    def teardown(self) -> None:
        """Has the results of the test use the back end no more, whose container is about to go."""
        gc.collect()
        for result in [each for each in gc.get_objects() if isinstance(each, AsyncResult)]:
            result.backend = None
        super().teardown()
