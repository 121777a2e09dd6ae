"""Crews with few partitions, and a broker that tests may stop, kill or pause, one for each module that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.kafka.cluster.cluster import close_all
from tests.integration import workers

#: A Kafka of these tests has the topics of hundreds of crews.
FEW = {"queue": 8, "state": 4, "control": 2, "delay": 4, "exchange": 2}


@pytest.fixture(scope="session", autouse=True)
def _few_partitions() -> None:
    workers.PARTITIONS.update(FEW)


@pytest.fixture(scope="module", autouse=True)
def _no_clients_stay() -> Iterator[None]:
    """Ends the clients of a module's apps: each goes on asking its broker, and hundreds of them keep a core busy."""
    yield
    close_all()


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[EmbeddedKafka]:
    """The module's own broker."""
    with EmbeddedKafka() as broker:
        yield broker


@pytest.fixture
def fragile(own_kafka: EmbeddedKafka) -> Iterator[EmbeddedKafka]:
    """The same, running at the begin of each test."""
    own_kafka.start()
    yield own_kafka
    if own_kafka.running():
        own_kafka.resume()
