"""A hundred thousand hostile records over all topics that a worker reads: nothing stands still, and memory is flat."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil
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
from tests.integration.kills import seed_of
from tests.integration.workers import Crew, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

#: So many records.
_NUMBER = int(os.environ.get("HOSTILE", "100000"))

#: What the worker's parent may have more at the end than after three tenths, megabytes.
_MOST_MORE = 25.0


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def test_a_hundred_thousand_hostile_records(made: Crew, request: pytest.FixtureRequest) -> None:
    one = made.start("one", *OPTIONS)
    made.ready(one)
    topics_exist(made)
    parent = psutil.Process(one.process.pid)
    records = spoiled(_NUMBER, Random(seed_of(request)), identity_of(made))
    good: list[str] = []
    memory: list[float] = []
    for tenth in range(10):
        share = records[len(records) * tenth // 10 : len(records) * (tenth + 1) // 10]
        sow(made, share, lambda number: good.extend(made.send("work", number=2)))
        is_drained(made, 600.0)
        memory.append(parent.memory_full_info().uss / 1e6)
    made.effects.wait_for(good, timeout=600)
    made.effects.assert_once(good)
    assert_all_works(made, timeout=120)
    assert one.process.poll() is None
    print(f"{len(records)} records, {[round(each) for each in memory]} MB, dead letters {letters(made)}")
    # What is shared with a child that was forked a moment ago does not count as the parent's own.
    assert memory[-1] < max(memory[:3]) + _MOST_MORE
    one.stop()
    two = made.start("two", *OPTIONS)
    made.ready(two)
    assert_all_works(made, timeout=120)
