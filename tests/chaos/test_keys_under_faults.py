"""Thousands of tasks of many ordering keys, with retries, while workers are killed, restarted and joined by others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.judge import judge_lanes
from tests.integration.kills import CONF, Killing, seed_of
from tests.integration.workers import Crew, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WORKERS, SLOTS = 3, 2
KEYS, TASKS = int(os.environ.get("CHAOS_KEYS", "200")), 50

#: Of each key, every so many is retried twice.
FAILING = 5


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def test_keys_stay_in_order(made: Crew, request: pytest.FixtureRequest) -> None:
    seed = seed_of(request)
    lanes = [[f"k{key}.{n}" for n in range(TASKS)] for key in range(KEYS)]
    with made.app.producer_or_acquire() as producer:
        for n in range(TASKS):
            for key, lane in enumerate(lanes):
                failures = 2 if n % FAILING == 0 else 0
                made.app.tasks["stumble"].apply_async(
                    (failures, 0.05), task_id=lane[n], ordering_key=f"k{key}", producer=producer
                )
    killing = Killing(made, WORKERS, SLOTS, seed)
    wanted = {task for lane in lanes for task in lane}
    began, scaled = time.time(), False
    while not wanted <= made.effects.count().keys():
        time.sleep(6)  # between two faults
        assert time.time() - began < 1500, f"{len(wanted - made.effects.count().keys())} tasks have not ended"
        if killing.times % 3 == 2:
            killing.restart_one()
        elif not scaled and killing.times > 3:
            scaled = True
            made.start("joins", "-c", str(SLOTS))
        elif not wanted <= made.effects.count().keys():
            killing.kill_one()
    effects = [effect for what in ("begin", "retry", "end") for effect in made.effects.all(what)]
    verdict = judge_lanes(lanes, effects, killing.kills)
    print(
        f"{len(wanted)} tasks of {KEYS} keys in {time.time() - began:.0f} s, {killing.times} kills and restarts: {verdict}"
    )
    assert (verdict.lost, verdict.inversions, verdict.overlaps, verdict.again) == ([], [], [], [])
