"""All tests share one real Kafka; each has topics of its own.

With pytest-xdist (``-n 3``) the process that hands out the tests runs the Kafka, and those that run them are told its port.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.broker.node import BrokerNode
from kafka_exec.broker.ports import NodeAddress

#: MB: memory for the topics of all tests. With too little Kafka collects garbage for seconds, and loses its leadership.
HEAP = 2048

#: A broker of one test runs for seconds. With Java's optimizing compiler it needs half as much CPU again (measured).
SHORT_LIVED = "-XX:TieredStopAtLevel=1"

UNIT = Path(__file__).parent / "unit"

_shared = pytest.StashKey[EmbeddedKafka]()


class ElsewhereKafka(EmbeddedKafka):
    """The Kafka that another process runs, for clients. It cannot be started, stopped or killed here."""

    def __init__(self, port: int) -> None:
        super().__init__(port=port)
        self._nodes = [BrokerNode(0, Path(), NodeAddress(self._hosts[0], port, 0, 0))]


def pytest_configure(config: pytest.Config) -> None:
    """Has Java start the brokers of single tests quickly. The Kafka of all tests is not a process of pytest-xdist's own."""
    if hasattr(config, "workerinput"):
        os.environ["JDK_JAVA_OPTIONS"] = SHORT_LIVED


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called by pytest-xdist for each of its processes: starts the Kafka for all of them. Unit tests alone need none."""
    paths = [Path(node.config.invocation_params.dir, path.partition("::")[0]) for path in node.config.args]
    if all(path.is_relative_to(UNIT) for path in paths):
        return
    if _shared not in node.config.stash:
        node.config.stash[_shared] = EmbeddedKafka(heap=HEAP)
        node.config.stash[_shared].start()
    node.workerinput["kafka_port"] = node.config.stash[_shared].port


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends it."""
    if (kafka := config.stash.get(_shared, None)) is not None:
        kafka.close()


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[EmbeddedKafka]:
    """One unsecured node. A test that stops or kills a broker makes one of its own."""
    if port := getattr(request.config, "workerinput", {}).get("kafka_port"):
        yield ElsewhereKafka(port)
        return
    with EmbeddedKafka(heap=HEAP) as broker:
        yield broker


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def broker_url(kafka: EmbeddedKafka, prefix: str) -> str:
    """The URL of the session's Kafka with the test's own prefix."""
    return f"{kafka.url}/{prefix}"
