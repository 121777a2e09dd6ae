"""A hundred thousand hostile records over all topics that a worker reads: nothing stands still, and memory is flat."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

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
from tests.integration.workers import Crew, Worker, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

#: So many records.
_NUMBER = int(os.environ.get("HOSTILE", "100000"))

#: What the worker's parent may keep more at the end than after three tenths, megabytes: 140 bytes for each record.
_MOST_MORE = 10.0


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


class Memory(NamedTuple):
    """A worker's memory, megabytes: all that is resident, and what of it the C library does not hold free."""

    resident: int
    kept: int


def memory_of(made: Crew, worker: Worker) -> Memory:
    found = until(lambda: made.app.control.inspect([worker.node], timeout=2)._request("memory"))[worker.node]
    return Memory(round(found["resident"]), round(found["resident"] - found["free"]))


def test_a_hundred_thousand_hostile_records(made: Crew, request: pytest.FixtureRequest) -> None:
    one = made.start("one", *OPTIONS)
    made.ready(one)
    topics_exist(made)
    records = spoiled(_NUMBER, Random(seed_of(request)), identity_of(made))
    good: list[str] = []
    memory: list[Memory] = []
    for tenth in range(10):
        share = records[len(records) * tenth // 10 : len(records) * (tenth + 1) // 10]
        sow(made, share, lambda number: good.extend(made.send("work", number=2)))
        is_drained(made, 600.0)
        memory.append(memory_of(made, one))
    made.effects.wait_for(good, timeout=600)
    made.effects.assert_once(good)
    assert_all_works(made, timeout=120)
    assert one.process.poll() is None
    kept, resident = [each.kept for each in memory], [each.resident for each in memory]
    print(f"{len(records)} records, MB kept {kept}, resident {resident}, dead letters {letters(made)}")
    assert kept[-1] < max(kept[:3]) + _MOST_MORE
    one.stop()
    two = made.start("two", *OPTIONS)
    made.ready(two)
    assert_all_works(made, timeout=120)
