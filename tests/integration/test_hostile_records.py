"""Records of any content in the topics that a worker reads: its parts go on, and so do those of the next worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.hostile_tools import (
    CONF,
    OPTIONS,
    assert_all_works,
    identity_of,
    is_drained,
    letters,
    sow,
    spoiled,
    topics_exist,
)
from tests.integration.workers import Crew, crew


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def test_no_record_takes_a_worker_down(made: Crew) -> None:
    one = made.start("one", *OPTIONS)
    made.ready(one)
    topics_exist(made)
    before = letters(made)
    sow(made, spoiled(2000, Random(11), identity_of(made)))
    assert_all_works(made)
    is_drained(made, 60.0)
    assert one.process.poll() is None
    assert "Control command error" not in one.output  # after which Celery listens anew, and misses what comes meanwhile
    found = letters(made)
    assert sum(found.values()) > sum(before.values()) + 100
    assert {"bad-task", "not-a-task", "bad-headers", "undecodable"} <= found.keys()
    one.stop()
    two = made.start("two", *OPTIONS)
    made.ready(two)
    assert_all_works(made)
