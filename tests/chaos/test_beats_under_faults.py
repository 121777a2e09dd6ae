"""Fifty periodic entries, three beats, and for minutes one of these killed, stopped or paused every ten seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.beat_storm import Storm, assert_weathered, schedule_of
from tests.integration.kills import seed_of
from tests.integration.workers import Crew, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ENTRIES = int(os.environ.get("CHAOS_ENTRIES", "50"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "300"))
PERIODS = {f"e{number}": 1.0 + number % 10 for number in range(ENTRIES)}


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, beat_schedule=schedule_of(PERIODS), result_expires=None) as found:
        yield found


def test_each_slot_is_fired_once(made: Crew, request: pytest.FixtureRequest) -> None:
    seed = seed_of(request)
    made.start("w", "-c", "4")
    storm = Storm(made, 3, seed)
    storm.blow(SECONDS, every=10.0)
    storm.end()
    print(f"{len(storm.faults)} faults: {assert_weathered(made, PERIODS)}")
