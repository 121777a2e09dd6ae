"""A process that was stopped knows it, whoever looks first."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.backend.pauses import Pauses
from kafka_exec.core.nodes.pauses import Ticks


@pytest.mark.parametrize(
    ("ticks", "began", "now", "expected"),
    [
        ([], 10.0, 11.0, False),
        ([11.0, 12.0, 13.0], 10.0, 14.0, False),
        ([11.0, 19.0, 20.0], 10.0, 20.5, True),
        ([11.0, 19.0, 20.0], 19.5, 20.5, False),
        ([11.0], 10.5, 19.0, True),
        ([11.0, 5.0, 6.0], 10.5, 6.5, False),
    ],
    ids=["nothing", "no pause", "a pause", "before it began", "nobody has ticked since", "the clock was set back"],
)
def test_a_pause_that_ended_after_a_run_began(ticks: list[float], began: float, now: float, expected: bool) -> None:
    found = Ticks(2.0, 10.0)
    for tick in ticks:
        found.tick(tick)
    assert found.stood_still_since(began, now) == expected


@given(st.lists(st.floats(0.0, 10.0), max_size=20), st.floats(0.0, 50.0))
def test_it_agrees_with_all_gaps(gaps: list[float], began: float) -> None:
    found, now, pauses = Ticks(2.0, 0.0), 0.0, []
    for gap in gaps:
        before, now = now, now + gap
        found.tick(now)
        if now - before > 2.0:
            pauses.append(now)
    assert found.stood_still_since(began, now) == any(end >= began for end in pauses)


def test_a_process_that_runs_was_not_stopped() -> None:
    pauses = Pauses()
    began = time.time()
    assert not pauses.since(began)
    pauses.watch(60.0)
    assert not pauses.since(began)
