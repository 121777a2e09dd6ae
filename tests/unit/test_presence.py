"""Heartbeats alone decide if another incarnation still runs the tasks that it has begun."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.nodes.heartbeat import LOST_AFTER, Heartbeat, Stray
from kafka_exec.core.nodes.liveness import Liveness, TaskWatch, lease

TASK: Stray = ("q", 0, 7)


def beat(incarnation: str, *, left: bool = False, strays: tuple[Stray, ...] = ()) -> Heartbeat:
    return Heartbeat(incarnation, "here", 1, left=left, strays=strays)


class Presence(Liveness):
    """The living, and the one task that another node is believed to run."""

    def __init__(self, period: float) -> None:
        super().__init__("me", period)
        self._watch = TaskWatch(self)
        self.now = 0.0
        self._watch.watch("other", TASK, self.now)

    def take(self, beat: Heartbeat, at: float) -> None:
        super().take(beat, at)
        self.now = at
        self._watch.take(beat, at)

    def is_over(self, incarnation: str, task: Stray) -> bool:
        return self._watch.is_over(incarnation, task, self.now)


def presence(*beats: tuple[str, float], period: float = 1.0) -> Presence:
    """The knowledge after these heartbeats, at these times in periods."""
    found = Presence(period)
    for incarnation, at in beats:
        found.take(beat(incarnation, strays=(TASK,)), at * period)
    return found


def test_who_sends_heartbeats_that_name_the_task_runs_it_however_long() -> None:
    found = presence(*((incarnation, float(at)) for at in range(100) for incarnation in ("me", "other")))
    assert not found.is_over("other", TASK)


@pytest.mark.parametrize("period", [0.25, 1.0, 30.0])
def test_who_is_silent_while_this_one_is_not_runs_nothing_more(period: float) -> None:
    beats = [("other", 0.0), ("me", 0.1), ("me", 1.0), ("me", 2.0), ("me", 3.0)]
    assert not presence(*beats, period=period).is_over("other", TASK)
    assert presence(*beats, ("me", 3.2), period=period).is_over("other", TASK)


def test_an_outage_that_silences_everybody_ends_nothing() -> None:
    found = presence(("other", 0.0), ("me", 0.0), ("me", 60.0), ("me", 61.0), ("me", 62.0))
    assert not found.is_over("other", TASK)


def test_nothing_is_over_before_an_own_heartbeat_was_read() -> None:
    assert not presence(("other", 0.0)).is_over("other", TASK)


def test_who_was_never_heard_is_lost_after_the_same_time() -> None:
    assert not presence(("me", 0.0), ("me", 1.0), ("me", 2.0)).is_over("other", TASK)
    assert presence(("me", 0.0), ("me", 1.0), ("me", 2.0), ("me", 3.0)).is_over("other", TASK)


def test_who_has_left_runs_nothing_more() -> None:
    found = presence(("me", 0.0))
    found.take(beat("other", left=True), 0.5)
    assert found.is_over("other", TASK)


def test_who_does_not_name_the_task_again_and_again_does_not_run_it() -> None:
    found = presence(("me", 0.0))
    for at in range(LOST_AFTER):
        found.take(beat("other"), float(at))
        assert not found.is_over("other", TASK)
    found.take(beat("other"), float(LOST_AFTER))
    assert found.is_over("other", TASK)
    found.take(beat("other", strays=(TASK,)), LOST_AFTER + 1.0)
    assert not found.is_over("other", TASK)


@pytest.mark.parametrize("ends", ["other lives", "other is silent", "other leaves"])
def test_a_task_that_nobody_asks_for_is_forgotten(ends: str) -> None:
    found = Liveness("me", 1.0)
    watch = TaskWatch(found)
    last = beat("other", left=ends == "other leaves")

    def hear(heard: Heartbeat, at: float) -> None:
        found.take(heard, at)
        watch.take(heard, at)

    hear(beat("me"), 0.0)
    hear(beat("other"), 0.0)
    for offset in range(1000):
        assert not watch.is_over("other", ("q", 0, offset), 0.5)
    for at in range(1, 10):
        hear(beat("me"), float(at))
        if ends != "other is silent":
            hear(last, float(at))
        watch.is_over("other", TASK, float(at))
    assert set(watch._tasks) <= {("other", TASK)}
    for at in range(10, 20):
        hear(beat("me"), float(at))
    assert not watch._tasks
    assert not watch._beats


def test_a_task_that_is_given_again_is_not_judged_by_what_was_heard_before() -> None:
    found = presence(("me", 0.0))
    for at in range(LOST_AFTER + 1):
        found.take(beat("other"), float(at))
    assert found.is_over("other", TASK)
    found._watch.watch("other", TASK, found.now)
    for at in range(LOST_AFTER):
        found.take(beat("other"), 10.0 + at)
        assert not found.is_over("other", TASK)
    found.take(beat("other"), 20.0)
    assert found.is_over("other", TASK)


def test_a_task_that_was_taken_back_is_watched_anew() -> None:
    found = presence(("me", 0.0))
    for at in range(LOST_AFTER + 1):
        found.take(beat("other"), float(at))
    assert found.is_over("other", TASK)
    assert not found.is_over("other", TASK), "it may have been given to the same worker again"


def test_what_was_heard_before_a_partition_came_says_nothing_of_its_tasks() -> None:
    found = presence(("me", 0.0))
    for at in range(LOST_AFTER + 1):
        found.take(beat("other"), float(at))
    found._watch.own(*TASK[:2])
    for at in range(LOST_AFTER):
        assert not found.is_over("other", TASK), "it may have begun it as its own"
        found.take(beat("other"), 10.0 + at)
    assert not found.is_over("other", TASK)
    found.take(beat("other"), 20.0)
    assert found.is_over("other", TASK)


def test_a_silent_incarnation_is_forgotten_and_still_lost() -> None:
    found = presence(("other", 0.0), *(("me", float(at)) for at in range(200)))
    assert found.last("other") is None
    assert found.is_over("other", TASK)


def test_a_beat_is_gone_after_three_missed_heartbeats() -> None:
    found = presence(("me", 0.0), ("other", 0.5), ("me", 1.0), ("me", 2.0), ("me", 3.0))
    assert not found.is_gone("other")
    found.take(beat("me"), 4.0)
    assert found.is_gone("other")


def test_a_suspicion_is_what_one_more_heartbeat_would_prove() -> None:
    found = presence(("me", 0.0), ("other", 0.2), ("me", 1.0), ("me", 2.0), ("me", 3.0))
    assert not found.suspects("other", 3.1), "it has just sent one"
    assert found.suspects("other", 3.6)
    assert not found.suspects("other", 9.0), "it has heard nothing itself"
    found.take(beat("other"), 3.5)
    assert not found.suspects("other", 3.6)


def test_who_has_a_role_is_known_until_it_says_goodbye() -> None:
    found = presence(("me", 0.0))
    found.take(Heartbeat("b", "here", 1, beat=True), 0.1)
    assert found.with_role("beat") == ["b"]
    found.take(Heartbeat("b", "here", 1, beat=True, left=True), 0.2)
    assert found.with_role("beat") == []
    assert found.is_gone("b")


@pytest.mark.parametrize("period", [0.25, 1.0, 30.0])
def test_a_nodes_lease_is_over_before_anybody_finds_it_lost(period: float) -> None:
    window = lease(period)
    window.renew(0.0)
    end = window.until or math.inf
    found = presence(("other", 0.0), ("me", 0.1), ("me", 1.0), ("me", 2.0), period=period)
    found.take(beat("me"), end)
    assert not found.is_gone("other")
    found.take(beat("me"), end + period)
    assert found.is_gone("other")


def test_a_lease_that_has_ended_does_not_come_back() -> None:
    window = lease(1.0)
    assert [window.renew(at) for at in (0.0, 1.0, 3.5)] == [True] * 3
    assert (window.until, window.lost) == (6.0, False)
    for at in (6.1, 7.0):
        assert not window.renew(at)
        assert (window.until, window.lost) == (None, True)


def test_who_was_lost_stays_lost_over_a_gap_until_it_is_heard_again() -> None:
    found = presence(("other", 0.0), ("me", 0.0), ("me", 1.0), ("me", 2.0), ("me", 3.0))
    assert found.is_gone("other")
    for at in (20.0, 21.0):
        found.take(beat("me"), at)
        assert found.is_gone("other"), "an outage does not bring it back"
    assert not found.suspects("other", 21.5), "it is not suspected of what is known"
    found.take(beat("other"), 21.5)
    assert not found.is_gone("other")


def test_heartbeats_from_before_this_one_do_not_say_what_runs_now() -> None:
    found = presence()
    for at in range(10):
        found.take(beat("other"), float(at))
    found.take(beat("me"), 10.0)
    assert not found.is_over("other", TASK)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.5]), st.sampled_from(["me", "me", "other"])), max_size=60
    )
)
def test_nobody_is_found_lost_while_its_window_is_open(heartbeats: list[tuple[float, str]]) -> None:
    """Heartbeats in any order: an outage, a node that stands still, one that is heard again."""
    found, window, now = Liveness("me", 1.0), lease(1.0), 0.0
    window.renew(now)
    found.take(beat("other"), now)
    for pause, incarnation in heartbeats:
        now += pause
        found.take(beat(incarnation), now)
        if incarnation == "other":
            window.renew(now)
        assert not (found.is_gone("other") and window.is_open(now))
        assert found.is_gone("other") or not found.suspects("other", now)
