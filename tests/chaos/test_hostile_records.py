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

#: So many records; the first tenth is there before memory is looked at.
_NUMBER = int(os.environ.get("HOSTILE", "100000"))

#: What the worker's parent may have more at the end than after the first tenth, megabytes.
_MOST_MORE = 40.0


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
    tenth = len(records) // 10
    sow(made, records[:tenth])
    is_drained(made, 600.0)
    before = parent.memory_full_info().uss / 1e6
    sow(made, records[tenth:], lambda number: good.extend(made.send("work", number=2)))
    is_drained(made, 2000.0)
    made.effects.wait_for(good, timeout=600)
    made.effects.assert_once(good)
    assert_all_works(made, timeout=120)
    after = parent.memory_full_info().uss / 1e6
    assert one.process.poll() is None
    print(f"{len(records)} records, {before:.0f} MB, then {after:.0f} MB, dead letters {letters(made)}")
    assert after < before + _MOST_MORE
    one.stop()
    two = made.start("two", *OPTIONS)
    made.ready(two)
    assert_all_works(made, timeout=120)
