"""The gate of waiting tasks: they begin in order, as slots get free, and suspects one at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.queue.partition.begins import must_be_told, to_await
from kafka_exec.core.worker.gate import SUSPECT_AFTER, Gate


def begun(gate: Gate[int, str], slots: int) -> list[str]:
    """The tasks that begin now."""
    found = []
    while (each := gate.next(slots)) is not None:
        found.append(each[1])
    return found


def test_tasks_begin_in_their_order_as_slots_get_free() -> None:
    gate: Gate[int, str] = Gate()
    for tag, task in enumerate("abcd"):
        gate.add(tag, task, attempts=0)
    assert begun(gate, 2) == ["a", "b"]
    gate.done(0)
    assert begun(gate, 2) == ["c"]
    gate.done(3)  # d went elsewhere
    gate.done(1)
    gate.done(2)
    assert begun(gate, 2) == []


def test_a_pool_that_grew_begins_more_and_one_without_slots_begins_one() -> None:
    gate: Gate[int, str] = Gate()
    for tag, task in enumerate("abcd"):
        gate.add(tag, task, attempts=0)
    assert begun(gate, 0) == ["a"]
    assert begun(gate, 3) == ["b", "c"]


def test_of_suspects_one_runs_at_a_time_and_others_pass_them() -> None:
    gate: Gate[int, str] = Gate()
    for tag, (task, attempts) in enumerate([("s", SUSPECT_AFTER), ("t", SUSPECT_AFTER), ("a", SUSPECT_AFTER - 1)]):
        gate.add(tag, task, attempts=attempts)
    assert begun(gate, 4) == ["s", "a"]
    gate.done(2)
    assert begun(gate, 4) == []
    gate.done(0)
    assert begun(gate, 4) == ["t"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(1, 3)), max_size=40))
def test_no_more_run_than_there_are_slots_and_none_is_left_behind(steps: list[tuple[bool, int, int]]) -> None:
    gate: Gate[int, int] = Gate()
    running: dict[int, int] = {}
    added = 0
    for is_new, attempts, slots in steps:
        if is_new:
            gate.add(added, attempts, attempts=attempts)
            added += 1
        elif running:
            tag = next(iter(running))
            gate.done(tag)
            del running[tag]
        while (found := gate.next(slots)) is not None:
            running[found[0]] = found[1]
            assert len(running) <= slots
            assert sum(attempts >= SUSPECT_AFTER for attempts in running.values()) <= 1
    for tag in list(running):
        gate.done(tag)
    while (found := gate.next(1)) is not None:
        gate.done(found[0])
    assert gate.next(100) is None


def test_whose_begin_must_be_known_before_it_runs() -> None:
    assert not must_be_told(has_lane=False, attempts=1, is_contested=False)
    assert must_be_told(has_lane=True, attempts=1, is_contested=False)
    assert must_be_told(has_lane=False, attempts=2, is_contested=False)
    assert must_be_told(has_lane=False, attempts=1, is_contested=True)


@pytest.mark.parametrize(
    ("reserved", "has_lane", "attempts", "is_contested", "expected"),
    [
        (None, False, 1, False, None),
        (None, True, 1, False, 7),
        (5, True, 1, False, 5),
        (5, True, 2, False, 7),
        (None, False, 2, False, 7),
        (None, False, 1, True, 7),
    ],
)
def test_what_a_begin_waits_for(
    reserved: int | None, has_lane: bool, attempts: int, is_contested: bool, expected: int | None
) -> None:
    assert to_await(7, reserved, has_lane=has_lane, attempts=attempts, is_contested=is_contested) == expected
