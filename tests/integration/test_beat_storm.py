"""A short storm over three beats; the long one is among the chaos tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.beat_storm import Storm, assert_weathered, schedule_of
from tests.integration.workers import Crew, crew

PERIODS = {f"e{number}": 0.5 + number % 4 for number in range(12)}


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, beat_schedule=schedule_of(PERIODS), result_expires=None) as found:
        yield found


@pytest.mark.timed
def test_each_slot_is_fired_once_and_no_two_runs_overlap(made: Crew) -> None:
    made.start("w", "-c", "4")
    storm = Storm(made, 3, seed=52)  # a kill, a pause, a stop and a kill
    storm.blow(14.0, every=3.0)
    storm.end()
    print(f"{storm.faults}: {assert_weathered(made, PERIODS)}")
