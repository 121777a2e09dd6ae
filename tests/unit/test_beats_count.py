"""The counts of ``./dev beats``: slots that were fired twice, and slots that were missed."""

from __future__ import annotations

import pytest

from tests.bench.beats import PERIODS, Fire, count

ENTRY = "e0"
PERIOD = PERIODS[ENTRY]


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        pytest.param([0, 1, 2, 3], (0, 0), id="each once"),
        pytest.param([0, 1.04, 2.09, 3.13], (0, 0), id="each a little later"),
        pytest.param([0, 1, 1, 2, 3], (1, 0), id="one twice"),
        pytest.param([0, 1, 1.2, 2.2, 3.2], (1, 0), id="one again before it is due"),
        pytest.param([0, 3], (0, 2), id="two missed"),
        pytest.param([3, 1, 0, 2], (0, 0), id="made up for"),
        pytest.param([0, 1], (0, 2), id="none at the end"),
        pytest.param([], (0, 0), id="never fired"),
    ],
)
def test_runs_are_counted_by_the_times_for_which_they_are(slots: list[float], expected: tuple[int, int]) -> None:
    fires = [Fire(ENTRY, 1, slot * PERIOD, 0.0) for slot in slots]
    assert count(fires, 3.9 * PERIOD) == expected
