"""The owners of partitions, and the nodes that live."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.nodes.assignment import owned, owner
from kafka_exec.core.nodes.heartbeat import LOST_AFTER, Heartbeat, is_lost
from kafka_exec.core.nodes.liveness import Liveness

MEMBERS = st.frozensets(st.text(max_size=5), max_size=6)


@given(members=MEMBERS, partitions=st.integers(1, 20))
def test_each_partition_has_one_owner(members: frozenset[str], partitions: int) -> None:
    shares = [owned(member, members, partitions) for member in members]
    assert Counter(number for share in shares for number in share) == Counter(range(partitions) if members else ())


@given(members=MEMBERS, newcomer=st.text(max_size=5))
def test_who_comes_or_goes_moves_only_partitions_of_its_own(members: frozenset[str], newcomer: str) -> None:
    members -= {newcomer}
    for number in range(20):
        before, after = owner(number, members), owner(number, members | {newcomer})
        assert after in (before, newcomer)


@given(members=MEMBERS)
def test_the_order_of_the_members_is_nobodys_business(members: frozenset[str]) -> None:
    assert [owner(n, sorted(members)) for n in range(8)] == [owner(n, sorted(members)[::-1]) for n in range(8)]


def test_the_owners_do_not_change_with_the_version() -> None:
    members = ["alfa", "bravo", "charlie"]
    assert [owner(number, members) for number in range(8)] == [
        "alfa",
        "charlie",
        "alfa",
        "bravo",
        "charlie",
        "charlie",
        "alfa",
        "alfa",
    ]


def test_the_shares_are_about_equal() -> None:
    members = frozenset(f"node-{n}" for n in range(4))
    assert all(200 < len(owned(member, members, 1000)) < 300 for member in members)


def beat(incarnation: str, *, left: bool = False, control: bool = True) -> Heartbeat:
    return Heartbeat(incarnation, "here", 1, left=left, control=control)


class Census(Liveness):
    """The living as one role's driver looks at them."""

    def __init__(self, role: str = "control") -> None:
        super().__init__("me", 1.0)
        self._role = role

    @property
    def drivers(self) -> frozenset[str]:
        return self.living(self._role)

    def suspects_any(self, now: float) -> bool:
        return any(self.suspects(incarnation, now) for incarnation in self.drivers - {"me"})


def census(*beats: tuple[float, str]) -> Census:
    found = Census()
    for at, incarnation in beats:
        found.take(beat(incarnation), at)
    return found


def every_second(incarnation: str, first: int, last: int) -> list[tuple[float, str]]:
    return [(float(at), incarnation) for at in range(first, last + 1)]


def test_nobody_is_known_before_the_own_heartbeat_was_read_back() -> None:
    assert census((1.0, "other")).drivers == set()
    assert census((1.0, "other"), (1.5, "me")).drivers == {"me", "other"}


def test_who_is_silent_for_three_periods_is_lost() -> None:
    beats = [(0.5, "other"), *every_second("me", 0, 3)]
    assert census(*sorted(beats)).drivers == {"me", "other"}
    assert census(*sorted([*beats, (3.5, "me")])).drivers == {"me"}


def test_who_says_goodbye_or_resigns_is_gone_at_once() -> None:
    for last in (beat("other", left=True), beat("other", control=False)):
        found = census((0.0, "me"), (0.1, "other"))
        found.take(last, 0.2)
        assert found.drivers == {"me"}


def test_a_gap_in_the_own_heartbeats_declares_nobody_lost() -> None:
    beats = [(0.0, "me"), (0.1, "other"), (1.0, "me")]
    assert census(*beats, (60.0, "me")).drivers == {"me", "other"}
    assert census(*beats, *every_second("me", 60, 62)).drivers == {"me", "other"}
    assert census(*beats, *every_second("me", 60, 60 + LOST_AFTER)).drivers == {"me"}


def test_who_was_before_the_own_start_gets_three_periods_from_then_on() -> None:
    assert census((-10.0, "other"), *every_second("me", 0, 2)).drivers == {"me", "other"}
    assert census((-10.0, "other"), *every_second("me", 0, 3)).drivers == {"me"}


def test_a_lost_one_that_is_heard_again_lives() -> None:
    found = census((0.0, "other"), *every_second("me", 0, 5))
    found.take(beat("other"), 5.1)
    assert found.drivers == {"me", "other"}


def test_a_heartbeat_at_the_right_moment_tells_sooner() -> None:
    found = census((0.0, "me"), (0.9, "other"), *every_second("me", 1, 3))
    assert not found.suspects_any(3.8)
    assert found.suspects_any(3.9)
    assert not found.suspects_any(9.0)  # its own heartbeats have not come for long
    found.take(beat("me"), 3.9)
    assert found.drivers == {"me"}
    assert not found.suspects_any(4.0)


@pytest.mark.parametrize(
    ("started", "heard", "lost"),
    [
        (5.0, None, True),
        (5.0, (Heartbeat("b", "p", 1, since=4.0), 9.5), False),
        (5.0, (Heartbeat("b", "p", 1, since=4.0), 7.0), False),
        (5.0, (Heartbeat("b", "p", 1, since=4.0), 6.9), True),
        (5.0, (Heartbeat("b", "p", 1, since=4.0, left=True), 9.5), True),
        (5.0, (Heartbeat("b", "p", 1, since=6.0), 9.5), True),
        (None, (Heartbeat("b", "p", 1, since=6.0), 9.5), False),
    ],
)
def test_a_task_is_lost_with_its_incarnation(
    started: float | None, heard: tuple[Heartbeat, float] | None, lost: bool
) -> None:
    assert is_lost(started, heard, now=10.0, period=1.0) is lost


def test_who_drives_something_else_has_no_share_in_it() -> None:
    found = Census("delays")
    for incarnation, delays in (("me", True), ("chords", False), ("other", True)):
        found.take(Heartbeat(incarnation, "here", 1, control=True, delays=delays), 0.0)
    assert found.drivers == {"me", "other"}


def test_a_heartbeat_of_an_older_version_has_no_part_in_the_control_plane() -> None:
    old = Heartbeat.decode(b'{"incarnation": "x", "place": "p", "pid": 1, "left": false}')
    assert old == Heartbeat("x", "p", 1)
    assert Heartbeat.decode(beat("x").encode()) == beat("x")
    assert Heartbeat.decode(b"[1]") is Heartbeat.decode(None) is Heartbeat.decode(b"{") is None
