"""Tasks that wait in held lanes keep the commit back for a while, and not for ever."""

from __future__ import annotations

import pytest

from kafka_exec.core.queue.lanes import STOPPED, Lane, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger, parked
from kafka_exec.core.queue.partition.parking import MOST_PARKED, PATIENCE, Standstill, to_park
from kafka_exec.core.queue.progress import Progress
from kafka_exec.kafka.queue.queued import Queued

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


def queued(ledger: Ledger) -> Queued:
    """Of three keys one waits for a retry, which is there, one is stopped, one flows."""
    found = Queued(ledger, remember=60.0)
    for offset, (lane, run) in enumerate(
        [(A, Run("a1", 0)), (C, Run("c0", 0)), (B, Run("b1", 0)), (A, Run("a0", 1)), (C, Run("c1", 0))]
    ):
        ledger.progress.receive(offset)
        found.enter(offset, Ticket(lane, run))
    ledger.hold(A, Run("a0", 1))
    ledger.hold(B, Run("b0", STOPPED))
    return found


def test_what_waits_for_a_run_is_parked_and_what_may_run_or_follows_what_runs_is_not() -> None:
    ledger = Ledger("q", Progress(0))
    found = queued(ledger)
    assert found.park(low=1) == found.park(low=3) == []
    assert found.park(low=0) == [parked(A, [0]), parked(B, [2])]
    assert (ledger.progress.low, ledger.needed) == (1, 0)
    assert [offset for offset in range(5) if ledger.has_ended(offset)] == []
    ledger.end(0)
    assert (ledger.progress.low, ledger.needed) == (1, 1)


def test_what_is_parked_comes_before_what_is_read_later_in_its_lane() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.park(A, [3, 7])
    found = Queued(ledger, remember=60.0)
    assert found.enter_parked() == [A]
    found.enter(9, Ticket(A, Run("late", 0)))
    assert [offset for offset in (3, 7, 9) if found.may_run(offset)] == [3]
    assert found.take(3) is None
    assert found.wanted == {3, 7}
