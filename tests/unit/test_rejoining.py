"""A static member that has come back joins its group until it has a second assignment; others join once."""

from __future__ import annotations

import pytest

from kafka_exec.core.nodes.heartbeat import Joining
from kafka_exec.core.nodes.rejoining import JOIN_EVERY, Rejoining


@pytest.mark.parametrize(
    ("memberships", "expected"),
    [
        ([Joining()], False),
        ([Joining(), Joining()], False),
        ([Joining("a")], False),
        ([Joining("a", is_return=True)], True),
        ([Joining("a"), Joining("a")], True),
        ([Joining("a", is_return=True), Joining()], False),
    ],
)
def test_only_a_static_member_that_was_one_before_joins_again(memberships: list[Joining], expected: bool) -> None:
    rejoining = Rejoining()
    for each in memberships:
        rejoining.join(each)
        assert not rejoining.is_due(100.0), "before it has an assignment there is nothing to be corrected"
        rejoining.assigned()
    assert rejoining.is_due(100.0) is expected


def test_it_tries_now_and_then_until_it_has_a_second_assignment() -> None:
    rejoining = Rejoining()
    rejoining.join(Joining("a", is_return=True))
    rejoining.assigned()
    assert [rejoining.is_due(now) for now in (10.0, 10.5, 10.0 + JOIN_EVERY, 10.1 + JOIN_EVERY)] == [True, False] * 2
    rejoining.assigned()
    assert not rejoining.is_due(100.0)


def test_the_next_membership_counts_its_own_assignments() -> None:
    rejoining = Rejoining()
    for now in (100.0, 200.0):
        rejoining.join(Joining("a", is_return=True))
        rejoining.assigned()
        assert rejoining.is_due(now)
        rejoining.assigned()
