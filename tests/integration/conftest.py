"""A broker that tests may stop, kill or pause, one for each module that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kafka_exec.broker import EmbeddedKafka


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
