"""Many chords while workers are killed, and large ones. The short variants are in tests/integration/test_chords.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chord
from celery.exceptions import ChordError

from kafka_exec.broker import EmbeddedKafka
from tests.integration.chord_tools import chords_under_kills
from tests.integration.workers import Crew, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Crew]:
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path, backend="same") as found:
        yield found


def test_a_thousand_chords_have_one_body_each_while_workers_are_killed(made: Crew) -> None:
    chords_under_kills(made, chords=1000, size=20, kills=None)


def test_ten_thousand_parts_of_a_kilobyte_fail_with_the_reason_and_no_other(made: Crew) -> None:
    """Their results are ten times what one message may hold."""
    made.ready(made.start("one", "-c", "4"))
    large, part, total = (made.app.tasks[name] for name in ("large", "part", "total"))
    began = time.monotonic()
    result = chord([large.s(1000) for _ in range(10_000)], total.s()).delay()
    sent = time.monotonic() - began
    others = [chord([part.s(number) for number in range(3)], total.s()).delay() for _ in range(20)]
    assert [other.get(timeout=300) for other in others] == [3] * 20
    with pytest.raises(ChordError, match="too large"):
        made.app.AsyncResult(result.id).get(timeout=300)
    print(f"10,000 parts of 1 KB: sent in {sent:.1f} s, failed after {time.monotonic() - began:.1f} s", end=" ")


def test_ten_thousand_parts_that_fit_run_their_body(made: Crew) -> None:
    made.ready(made.start("one", "-c", "4"))
    part, total = (made.app.tasks[name] for name in ("part", "total"))
    began = time.monotonic()
    result = chord([part.s(number) for number in range(10_000)], total.s()).delay()
    sent = time.monotonic() - began
    assert made.app.AsyncResult(result.id).get(timeout=300) == sum(range(10_000))
    print(f"10,000 parts: sent in {sent:.1f} s, done after {time.monotonic() - began:.1f} s", end=" ")
