"""Grants of waiting tasks: heartbeats decide which worker gets one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.nodes.liveness import Liveness
from kafka_exec.core.worker.sharing import Fullness, Grant, idle_peers, is_given_up, who_knows


def peer(
    incarnation: str, *, slots: int = 2, active: int = 0, queues: tuple[str, ...] = ("q",), tasks: object = ()
) -> Heartbeat:
    return Heartbeat(incarnation, "here", 1, slots=slots, active=active, queues=queues, tasks=tasks)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("peers", "waiting", "expected"),
    [
        ([], 3, []),
        ([peer("a")], 0, []),
        ([peer("a")], 1, ["a"]),
        ([peer("a")], 5, ["a", "a"]),
        ([peer("a", active=2)], 5, []),
        ([peer("a", active=3)], 5, []),
        ([peer("a", queues=("other",))], 5, []),
        ([peer("a"), peer("b", slots=4)], 3, ["b", "a", "b"]),
        ([peer("a"), peer("b", slots=4)], 9, ["b", "a", "b", "a", "b", "b"]),
    ],
)
def test_who_has_slots_free_gets_as_many_tasks(peers: list[Heartbeat], waiting: int, expected: list[str]) -> None:
    assert idle_peers(peers, "q", waiting) == expected


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=5), st.integers(0, 20))
def test_nobody_gets_more_than_it_has_slots_for(loads: list[tuple[int, int]], waiting: int) -> None:
    peers = [peer(str(n), slots=slots, active=active) for n, (slots, active) in enumerate(loads)]
    chosen = idle_peers(peers, "q", waiting)
    free = {each.incarnation: max(0, each.slots - each.active) for each in peers}
    assert len(chosen) == min(waiting, sum(free.values()))
    assert all(count <= free[incarnation] for incarnation, count in Counter(chosen).items())


def test_an_unknown_task_goes_to_the_idlest_of_those_who_know_it() -> None:
    peers = [
        peer("busy", active=2, tasks=("t",)),
        peer("idle", tasks=("t",)),
        peer("idler", slots=9, tasks=("u",)),
        peer("elsewhere", slots=9, queues=(), tasks=("t",)),
        peer("silent", slots=9, tasks=None),
    ]
    assert who_knows(peers, "q", "t") == "idle"
    assert who_knows(peers[:1], "q", "t") == "busy"
    assert who_knows(peers, "q", "v") is None


def test_a_grant_is_a_record() -> None:
    grants = [Grant("a", "queue.q", 3, 17, 0, "id", 5), Grant("b", "queue.q", 0, 1, 4, "id", 0)]
    assert Grant.decode(Grant.encode(grants)) == grants
    for value in (None, b"", b"{}", b"[]", b'{"grants": [["a"]]}', b'{"grants": 5}', Heartbeat("a", "p", 1).encode()):
        assert Grant.decode(value) == []
    assert Heartbeat.decode(Grant.encode(grants)) is None


def test_only_who_was_full_before_gives_away() -> None:
    full = Fullness()
    looks = [(False, 1.0), (True, 2.0), (True, 3.0), (True, 4.0), (False, 5.0), (True, None), (True, 7.0), (True, 8.0)]
    assert [full.look(*look) for look in looks] == [None, None, 2.0, 2.0, None, None, None, 7.0]


def test_a_misfit_is_given_up_after_its_time() -> None:
    assert not is_given_up(10.0, 15.0, 5.0)
    assert is_given_up(10.0, 15.1, 5.0)


def test_peers_are_those_who_live_with_the_tasks_that_they_once_told() -> None:
    presence = Liveness("me", 1.0)
    presence.take(peer("a", tasks=("t",)), 0.0)
    assert presence.peers() == []
    presence.take(peer("me"), 0.5)
    presence.take(peer("a", active=1, tasks=None), 1.0)
    presence.take(peer("b"), 1.0)
    assert presence.peers() == [peer("a", active=1, tasks=("t",)), peer("b")]
    assert presence.peers(since=0.9) == presence.peers()
    assert presence.peers(since=1.0) == []
    presence.take(Heartbeat("b", "here", 1, left=True), 2.0)
    presence.take(peer("me"), 3.9)
    assert presence.peers() == [peer("a", active=1, tasks=("t",))]
    presence.take(peer("me"), 4.0)
    assert presence.peers() == []
