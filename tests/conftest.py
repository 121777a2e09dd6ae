"""The tests of a process share one real Kafka; each has topics of its own.

With pytest-xdist (``-n 3``) each process runs a Kafka. One for all of them does not hold the topics of all tests: Kafka maps
some files of each partition into memory, and the operating system allows 65,530 of these (``vm.max_map_count``).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from kafka_exec.broker import EmbeddedKafka

#: MB: memory for the topics of all tests. With too little Kafka collects garbage for seconds, and loses its leadership.
HEAP = 1024

#: With Java's optimizing compiler a broker of the tests needs half as much CPU again (measured over 24 workers in turn).
FIRST_COMPILER_ONLY = "-XX:TieredStopAtLevel=1"


@pytest.fixture(scope="session")
def kafka() -> Iterator[EmbeddedKafka]:
    """One unsecured node. A test that stops or kills a broker makes one of its own."""
    os.environ["JDK_JAVA_OPTIONS"] = FIRST_COMPILER_ONLY
    broker = EmbeddedKafka(heap=HEAP)
    broker.start()
    try:
        yield broker
    finally:
        broker.close()


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def broker_url(kafka: EmbeddedKafka, prefix: str) -> str:
    """The URL of the session's Kafka with the test's own prefix."""
    return f"{kafka.url}/{prefix}"
