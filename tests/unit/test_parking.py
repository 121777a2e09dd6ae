"""Tasks that wait in held lanes keep the commit back for a while, and not for ever."""

from __future__ import annotations

import pytest

from kafka_exec.core.queue.lanes import Lane
from kafka_exec.core.queue.partition.parking import MOST_PARKED, PATIENCE, Standstill, to_park

A, B, C = (Lane("key", name) for name in "abc")

EVEN, ODD = list(range(0, 4000, 2)), list(range(1, 4000, 2))


@pytest.mark.parametrize(
    ("blocked", "already", "expected"),
    [
        ([], {}, {}),
        ([(A, [1, 3])], {}, {A: [1, 3]}),
        ([(A, [1, 3]), (B, [2])], {1: A}, {B: [2], A: [3]}),
        ([(A, [1, 3])], {1: A, 3: A}, {}),
        (
            [(A, list(range(0, 4000, 2))), (B, list(range(1, 4000, 2)))],
            {},
            {A: [*range(0, 1000, 2)], B: [*range(1, 1000, 2)]},
        ),
        ([(A, [0, 20_000, 20_001])], dict.fromkeys(range(1, MOST_PARKED), B), {A: [0]}),
        ([(A, [20_000])], dict.fromkeys(range(MOST_PARKED), B), {}),
    ],
    ids=["nothing", "a lane", "some more", "all parked", "the first thousand", "room for one", "no room"],
)
def test_the_first_that_wait_are_parked_as_far_as_there_is_room(
    blocked: list[tuple[Lane, list[int]]], already: dict[int, Lane], expected: dict[Lane, list[int]]
) -> None:
    assert to_park(blocked, already) == expected


def test_a_commit_stands_still_while_the_lowest_unfinished_offset_is_the_same() -> None:
    standstill = Standstill()
    assert not standstill.is_long(5, now=100.0)
    assert not standstill.is_long(5, now=100.0 + 0.9 * PATIENCE)
    assert standstill.is_long(5, now=100.0 + PATIENCE)
    assert not standstill.is_long(6, now=100.0 + PATIENCE)
