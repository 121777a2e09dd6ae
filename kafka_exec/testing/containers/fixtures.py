"""The fixtures of the vendor for pytest-celery. Our plug-in for pytest adds them where pytest-celery is loaded."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from pytest_docker_tools import container, fxtr

from kafka_exec.testing.containers.client import ProcessClient
from kafka_exec.testing.containers.kafka import KafkaContainer, KafkaTestBackend, KafkaTestBroker

#: It is ready within so many seconds.
_TIMEOUT = 120

default_kafka_broker = container(
    image="{default_kafka_broker_image}",
    name="{default_kafka_broker_name}",
    ports=fxtr("default_kafka_broker_ports"),
    environment=fxtr("default_kafka_broker_env"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=KafkaContainer,
    timeout=_TIMEOUT,
)


@pytest.fixture
def celery_kafka_broker(default_kafka_broker: KafkaContainer) -> Iterator[KafkaTestBroker]:
    """Kafka as the broker."""
    broker = KafkaTestBroker(default_kafka_broker)
    yield broker
    broker.teardown()


@pytest.fixture
def celery_kafka_backend(default_kafka_broker: KafkaContainer) -> Iterator[KafkaTestBackend]:
    """The same Kafka as the result back end."""
    backend = KafkaTestBackend(default_kafka_broker)
    yield backend
    backend.teardown()


@pytest.fixture
def default_kafka_broker_cls() -> type[KafkaContainer]:
    """The class that says how the container is made. Override it with a subclass."""
    return KafkaContainer


@pytest.fixture
def default_kafka_broker_name() -> str:
    """The name by which other containers know it."""
    return f"kafka-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def default_kafka_broker_image(default_kafka_broker_cls: type[KafkaContainer]) -> str:
    """The image."""
    return default_kafka_broker_cls.image()


@pytest.fixture
def default_kafka_broker_ports(default_kafka_broker_cls: type[KafkaContainer]) -> dict[str, int]:
    """The port for the tests."""
    return default_kafka_broker_cls.ports()


@pytest.fixture
def default_kafka_broker_env(
    default_kafka_broker_cls: type[KafkaContainer],
    default_kafka_broker_name: str,
    default_kafka_broker_ports: dict[str, int],
) -> dict[str, str]:
    """The variables of the container."""
    return default_kafka_broker_cls.initial_env(default_kafka_broker_name, default_kafka_broker_ports)


@pytest.fixture(scope="session")
def process_client() -> Iterator[ProcessClient]:
    """A client whose containers are processes. Without Docker, let ``docker_client`` of your conftest.py return it."""
    with ProcessClient() as client:
        yield client
