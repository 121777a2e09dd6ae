"""What all tests share: one real Kafka for the session, and topics of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from kafka_exec.broker import EmbeddedKafka


@pytest.fixture(scope="session")
def kafka() -> Iterator[EmbeddedKafka]:
    """One unsecured node, started at the first use. A test that stops or kills a broker makes one of its own.

    It has memory for the topics of all tests: with too little it collects garbage for seconds, and loses its leadership.
    """
    with EmbeddedKafka(heap=1024) as broker:
        yield broker


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def broker_url(kafka: EmbeddedKafka, prefix: str) -> str:
    """The URL of the session's Kafka with the test's own prefix."""
    return f"{kafka.url}/{prefix}"
