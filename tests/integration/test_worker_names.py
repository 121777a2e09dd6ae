"""The node name is the static membership: a restart gets its partitions back at once, a second one of a name is noticed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import Crew, crew

SESSION = 30  # seconds: what depends on its end would be seen


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, kafka_exec_session_timeout=SESSION) as found:
        yield found


def test_a_second_worker_of_a_name_is_told_and_both_work(made: Crew) -> None:
    first = made.start("first", "-n", "same@test", "-c", "1", "-P", "threads")
    made.ready(first)
    second = made.start("second", "-n", "same@test", "-c", "1", "-P", "threads")
    second.wait_for_line("another worker named same@test is running")
    made.ready(second)

    gate = made.gate()
    held = made.send("hold", str(gate), number=16)
    gate.touch()
    quick = made.send("work", number=200)
    made.effects.wait_for([*held, *quick])
    made.effects.assert_once([*held, *quick])
    assert {effect.worker for effect in made.effects.all("end")} == {"first", "second"}
    assert first.process.poll() is None
    assert "static membership" not in first.output


def test_a_worker_killed_and_started_again_has_its_partitions_at_once(made: Crew) -> None:
    made.ready(made.start("phoenix", "-c", "1", "-P", "threads"))
    made.effects.wait_for(made.send("work", number=20))
    made.workers[0].kill()
    begun = time.monotonic()
    again = made.start("phoenix", "-c", "1", "-P", "threads")
    made.effects.wait_for(made.send("work", number=100))
    assert time.monotonic() - begun < SESSION / 2
    assert "another worker" not in again.output
