"""The prefetch window and the choice between priority steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.message.window import (
    FROM_BELOW_EVERY,
    MOST_STEPS,
    is_full,
    pick_step,
    refill_due,
    step_of,
    steps_for,
)


@pytest.mark.parametrize(
    ("limit", "outstanding", "full", "due"),
    [
        (0, 0, False, True),
        (0, 10**6, False, True),
        (1, 0, False, True),
        (1, 1, True, False),
        (4, 3, False, True),
        (4, 4, True, False),
        (100, 76, False, False),
        (100, 75, False, True),
        (10, 12, True, False),
    ],
)
def test_window(limit: int, outstanding: int, full: bool, due: bool) -> None:
    assert is_full(limit, outstanding) is full
    assert refill_due(limit, outstanding) is due


@given(limit=st.integers(1, 1000))
def test_an_empty_window_is_always_refilled_and_a_full_one_never(limit: int) -> None:
    assert refill_due(limit, 0)
    assert not refill_due(limit, limit)


@pytest.mark.parametrize(("declared", "steps"), [(None, 1), (0, 1), (-1, 1), (1, 2), (2, 3), (3, 4), (9, 4), (255, 4)])
def test_steps(declared: int | None, steps: int) -> None:
    assert steps_for(declared) == steps <= MOST_STEPS


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (None, [0] * 12),
        (1, [0] + [1] * 11),
        (3, [0, 1, 2] + [3] * 9),
        (9, [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3]),
    ],
)
def test_step_of_each_priority(declared: int | None, expected: list[int]) -> None:
    assert [step_of(priority, declared) for priority in range(12)] == expected
    assert step_of(None, declared) == step_of(-5, declared) == 0


@given(declared=st.integers(1, 255), priorities=st.lists(st.integers(-10, 300), min_size=2, max_size=2))
def test_more_urgent_is_never_in_a_lower_step(declared: int, priorities: list[int]) -> None:
    low, high = sorted(priorities)
    assert 0 <= step_of(low, declared) <= step_of(high, declared) < steps_for(declared)
    assert step_of(0, declared) == 0
    assert step_of(declared, declared) == steps_for(declared) - 1


WAITING = st.sets(st.integers(0, MOST_STEPS - 1), min_size=1).map(sorted)


@given(waiting=WAITING, first=st.integers(0, 1000))
def test_no_step_starves_and_the_highest_goes_first(waiting: list[int], first: int) -> None:
    most = FROM_BELOW_EVERY * max(1, len(waiting) - 1)
    picked = [pick_step(waiting, turn) for turn in range(first, first + most)]
    assert set(picked) == set(waiting)
    from_below = [step for step in picked if step != waiting[-1]]
    assert len(from_below) == (len(waiting) - 1)
    assert sorted(from_below) == waiting[:-1]


@given(st.lists(st.integers(0, 30), min_size=MOST_STEPS, max_size=MOST_STEPS))
def test_all_messages_are_served_in_their_order_within_a_step(waiting: list[int]) -> None:
    left, served = list(waiting), [0] * MOST_STEPS
    for turn in range(sum(waiting)):
        step = pick_step([n for n in range(MOST_STEPS) if left[n]], turn)
        left[step] -= 1
        served[step] += 1
    assert served == waiting
