"""Slots: which are due, which are missed, and that neither clocks nor restarts make two of one or none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.beat.agenda import Agenda, Plan, run_id
from kafka_exec.core.beat.claimant import Firing
from kafka_exec.core.beat.claimlog import Standing
from kafka_exec.core.beat.schedule import MISSED_AFTER, Calendar, CatchUp, Due, Grid, Policy, definition_hash, due
from kafka_exec.core.nodes.clock import LogClock
from kafka_exec.errors import ConfigurationError

YEAR = 365 * 86400.0


def complain(entry: str, error: Exception) -> None:
    raise error


# -- rules -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [0.05, 1, 60.0, 3600, 86400, 30 * 86400, YEAR])
@given(start=st.floats(0, 2e9), time=st.floats(0, 2e9))
def test_a_grid_has_all_its_points_and_no_others(period: float, start: float, time: float) -> None:
    after = Grid(period, start).after(time)
    assert after > time or math.isclose(after, time, abs_tol=1e-6)
    if time >= start:
        assert after - time <= period + 1e-3
    steps = (after - start) / period
    assert abs(steps - round(steps)) * period < 1e-3


def test_a_late_run_does_not_shift_a_grid() -> None:
    rule = Grid(10.0, 1000.0)
    found = due(rule, 1010.0, 1027.5, CatchUp.ONE)
    assert found == Due((1020.0,), 0)
    assert rule.after(1020.0) == 1030.0


@pytest.mark.parametrize("period", [0, -1, 0.01, math.nan, math.inf, "10", None, True])
def test_a_period_must_be_a_time(period: object) -> None:
    with pytest.raises(ConfigurationError, match="period"):
        Grid(period)  # type: ignore[arg-type]


def test_a_calendar_must_go_on() -> None:
    with pytest.raises(ConfigurationError):
        Calendar(lambda time: time).after(5.0)


# -- catching up -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "late", "expected"),
    [
        (CatchUp.ALL, 0.5, Due((10.0,))),
        (CatchUp.ONE, 0.5, Due((10.0,))),
        (CatchUp.SKIP, 0.5, Due((10.0,))),
        (CatchUp.ALL, 35.0, Due((10.0, 20.0, 30.0, 40.0))),
        (CatchUp.ONE, 35.0, Due((40.0,), 3)),
        (CatchUp.SKIP, 35.0, Due((40.0,), 3)),
        (CatchUp.ALL, -0.1, Due()),
        (CatchUp.ONE, -0.1, Due()),
        (CatchUp.SKIP, -0.1, Due()),
    ],
)
def test_what_is_due(catch_up: CatchUp, late: float, expected: Due) -> None:
    assert due(Grid(10.0), 0.0, 10.0 + late, catch_up) == expected


def test_a_slot_that_is_very_late_is_skipped() -> None:
    assert due(Grid(3600.0), 0.0, 3600.0 + MISSED_AFTER + 1, CatchUp.SKIP) == Due((), 1, 3600.0)
    assert due(Grid(3600.0), 0.0, 3600.0 + MISSED_AFTER - 1, CatchUp.SKIP) == Due((3600.0,), 0)


def test_a_past_of_any_length_is_looked_through_quickly() -> None:
    asked = 0

    def next_minute(time: float) -> float:
        nonlocal asked
        asked += 1
        return math.floor(time / 60) * 60 + 60

    now = YEAR + 30.0
    assert due(Calendar(next_minute), 0.0, now, CatchUp.ONE).slots == (YEAR,)
    assert asked < 10_000
    found = due(Grid(0.5), 0.0, YEAR + 0.25, CatchUp.ONE)
    assert (found.slots, found.missed) == ((YEAR,), int(2 * YEAR) - 1)


@given(
    st.lists(st.floats(-50, 200), min_size=1, max_size=30),
    st.sampled_from([3.0, 7.5, 60.0]),
)
def test_with_all_each_slot_is_fired_once_whatever_the_clock_does(steps: list[float], period: float) -> None:
    rule, last, now, latest = Grid(period), 0.0, 0.0, 0.0
    fired: list[float] = []
    for step in steps:
        now += step
        latest = max(latest, now)
        while found := due(rule, last, now, CatchUp.ALL).slots:
            fired += found
            last = found[-1]
    assert fired == [period * number for number in range(1, int(max(latest, 0) // period) + 1)]


# -- policies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"catch_up": "some"},
        {"max_running": 0},
        {"max_running": 1.5},
        {"max_running": True},
        {"max_duration": -1},
        {"max_duration": "1"},
        {"max_executions_on_node": 0},
        {"labels": "gpu"},
        {"labels": [1]},
        {"claim_heartbeat": 0.1},
        {"claim_wait": -1},
        {"takeover_wait": "long"},
    ],
)
def test_a_wrong_value_is_refused_by_its_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Policy.read(wrong, "one")


def test_a_policy_has_the_default_of_the_settings() -> None:
    assert Policy.read({}, "all").catch_up is CatchUp.ALL
    assert Policy.read({"catch_up": "skip"}, "all").catch_up is CatchUp.SKIP


def test_only_who_has_all_labels_is_able() -> None:
    policy = Policy.read({"labels": ["gpu", "eu"]}, "one")
    assert policy.able(["eu", "gpu", "more"])
    assert not policy.able(["gpu"])
    assert Policy().able([])


def test_runs_of_one_lane_follow_one_another() -> None:
    assert {Policy().lane("e", number) for number in range(5)} == {"beat e"}
    assert {Policy(max_running=3).lane("e", number) for number in range(9)} == {"beat e 0", "beat e 1", "beat e 2"}


def test_another_definition_has_another_hash() -> None:
    assert definition_hash("task", 10) == definition_hash("task", 10)
    assert definition_hash("task", 10) != definition_hash("task", 11)


# -- the agenda --------------------------------------------------------------------------------------------------------


def agenda(**plans: Plan) -> Agenda:
    made = Agenda(complain)
    made.plan(plans)
    return made


def plan(period: float = 10.0, **changes: object) -> Plan:
    return Plan(Grid(period), Policy(catch_up=CatchUp.ALL), "h", **changes)  # type: ignore[arg-type]


def test_what_is_acquired_goes_on_where_the_log_says() -> None:
    made = agenda(e=plan())
    made.acquired("e", Standing(slot=100.0, runs=7))
    assert made.next_due == 110.0
    (proposal,) = made.due(125.0)
    assert [(f.slot, f.run) for f in proposal.firings] == [(s, run_id("e", s)) for s in (110.0, 120.0)]
    assert proposal.runs == (7, 8)
    made.done(proposal)
    assert made.next_due == 130.0


def test_the_first_slot_is_a_period_after_the_first_claim() -> None:
    made = agenda(e=plan())
    made.acquired("e", Standing(since=50.0))
    assert made.next_due == 60.0


def test_what_could_not_be_done_is_proposed_again() -> None:
    made = agenda(e=plan())
    made.acquired("e", Standing(slot=100.0))
    (proposal,) = made.due(110.0)
    made.later(proposal, 111.0)
    assert made.due(110.5) == []
    assert made.due(111.0) == [proposal]


def test_what_can_never_be_done_is_passed_over_and_counted() -> None:
    made = agenda(e=plan())
    made.acquired("e", Standing(slot=100.0))
    made.given_up(*made.due(120.0))
    (proposal,) = made.due(130.0)
    assert [(f.slot, f.missed) for f in proposal.firings] == [(130.0, 2)]


def test_a_run_asked_for_that_can_never_be_done_is_no_missed_slot() -> None:
    made = agenda(e=plan(request=105.5))
    made.acquired("e", Standing(slot=100.0))
    made.given_up(*made.due(128.0))
    made.plan({"e": plan(request=128.5)})
    made.given_up(*made.due(129.0))
    (proposal,) = made.due(130.0)
    assert [(f.slot, f.missed) for f in proposal.firings] == [(130.0, 2)]


def test_those_that_have_waited_longest_go_first() -> None:
    made = agenda(a=plan(), b=plan(), c=plan())
    for name, slot in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        made.acquired(name, Standing(slot=slot))
    assert [proposal.entry for proposal in made.due(20.0)] == ["b", "c", "a"]


def test_a_pause_ends_without_catching_up() -> None:
    made = agenda(e=plan())
    made.acquired("e", Standing(slot=100.0))
    made.plan({"e": plan(paused=True)})
    assert made.next_due is None
    made.plan({"e": plan(since=134.0)})
    assert made.next_due == 144.0


def test_a_run_asked_for_is_done_once_also_of_a_paused_entry() -> None:
    made = agenda(e=plan(paused=True, request=105.5))
    made.acquired("e", Standing(slot=100.0))
    (proposal,) = made.due(106.0)
    assert [(f.slot, f.request) for f in proposal.firings] == [(105.5, 105.5)]
    made.done(proposal)
    assert made.next_due is None
    other = agenda(e=plan(paused=True, request=105.5))
    other.acquired("e", Standing(slot=100.0, request=105.5))
    assert other.next_due is None


def test_a_schedule_that_fails_harms_no_other() -> None:
    told: list[str] = []
    made = Agenda(lambda entry, error: told.append(entry))

    def fails(time: float) -> float:
        raise ValueError("no")

    made.plan({"bad": Plan(Calendar(fails), Policy(), "h"), "good": plan()})
    for entry in ("bad", "good"):
        made.acquired(entry, Standing(slot=100.0))
    assert [proposal.entry for proposal in made.due(110.0)] == ["good"]
    assert told == ["bad", "bad"]


def test_after_so_many_runs_it_is_another_nodes_turn() -> None:
    made = agenda(e=Plan(Grid(10.0), Policy(max_executions_on_node=2), "h"))
    made.acquired("e", Standing(slot=100.0))
    for now in (110.0, 120.0):
        assert not made.is_used_up("e")
        made.done(*made.due(now))
    assert made.is_used_up("e")


# -- runs of the node's own --------------------------------------------------------------------------------------------


def own(**told: object) -> Agenda:
    """An agenda with an entry of 10 s that runs on its node, fired last at 100."""
    made = agenda(e=Plan(Grid(10.0), Policy.read({"on_node": True, **told}, "one"), "h"))
    made.acquired("e", Standing(slot=100.0))
    return made


def run(made: Agenda, now: float) -> Firing:
    """Begins the one run that is due."""
    (proposal,) = made.due(now)
    (firing,) = proposal.firings
    made.done(proposal)
    made.begun("e", now)
    return firing


def test_what_waits_for_a_run_is_begun_one_by_one_with_none_left_out() -> None:
    made = own()
    assert run(made, 110.0).slot == 110.0
    assert made.due(139.0) == []
    for now, slot in ((139.0, 120.0), (150.0, 130.0)):
        made.ended("e", now)
        firing = run(made, now)
        assert (firing.slot, firing.missed) == (slot, 0)


@pytest.mark.parametrize(("catch_up", "first", "missed"), [("one", 140.0, 3), ("all", 110.0, 0)])
def test_what_was_missed_before_the_claim_is_made_up_for_as_the_entry_says(
    catch_up: str, first: float, missed: int
) -> None:
    firing = run(own(catch_up=catch_up), 145.0)
    assert (firing.slot, firing.missed) == (first, missed)


def test_what_is_skipped_during_a_run_is_counted() -> None:
    made = own(overlap="skip", catch_up="all")
    run(made, 110.0)
    made.ended("e", 135.0)
    assert made.next_due == 140.0
    firing = run(made, 140.0)
    assert (firing.slot, firing.missed) == (140.0, 2)


def test_what_replaces_a_run_is_due_while_it_is_under_way() -> None:
    made = own(overlap="replace", catch_up="all")
    run(made, 110.0)
    firing = run(made, 135.0)
    assert (firing.slot, firing.missed) == (130.0, 1)


def test_a_period_that_begins_at_a_runs_end_misses_nothing() -> None:
    made = own(after_end=True)
    run(made, 110.0)
    assert made.due(500.0) == []
    made.ended("e", 137.0)
    assert made.next_due == 147.0
    assert run(made, 900.0).slot == 147.0


def test_a_period_goes_on_at_the_end_that_the_log_has() -> None:
    made = agenda(e=Plan(Grid(10.0), Policy(on_node=True, after_end=True), "h"))
    made.acquired("e", Standing(slot=100.0, ended=133.0))
    assert made.next_due == 143.0


def test_a_run_is_overdue_at_its_max_duration_until_it_has_ended() -> None:
    made = own(max_duration=5)
    run(made, 110.0)
    assert (made.overdue(114.9), made.overdue(115.0)) == ([], ["e"])
    made.ended("e", 115.0)
    assert made.overdue(200.0) == []
    endless = own()
    run(endless, 110.0)
    assert endless.overdue(1e12) == []


def test_a_run_asked_for_waits_for_the_one_under_way() -> None:
    made = own()
    run(made, 110.0)
    policy = Policy(on_node=True)
    made.plan({"e": Plan(Grid(10.0), policy, "h", request=111.5)})
    assert made.due(112.0) == []
    made.ended("e", 113.0)
    assert run(made, 113.0).request == 111.5
    made.ended("e", 114.0)
    assert made.next_due == 120.0


def test_a_run_asked_for_does_not_wait_for_all_slots_that_came_during_runs() -> None:
    made = own()
    run(made, 110.0)
    made.plan({"e": Plan(Grid(10.0), Policy(on_node=True), "h", request=111.5)})
    made.ended("e", 135.0)
    assert run(made, 135.0).request == 111.5
    made.ended("e", 136.0)
    assert run(made, 136.0).slot == 120.0


def test_missed_slots_are_caught_up_with_before_a_run_asked_for() -> None:
    made = agenda(e=Plan(Grid(10.0), Policy(on_node=True), "h", request=111.5))
    made.acquired("e", Standing(slot=100.0))
    assert (run(made, 135.0).slot, made.ended("e", 136.0)) == (130.0, None)
    assert run(made, 136.0).request == 111.5


def test_what_is_released_during_a_run_is_not_overdue() -> None:
    made = own(max_duration=5)
    run(made, 110.0)
    made.released("e")
    made.ended("e", 111.0)
    assert (made.overdue(200.0), made.next_due) == ([], None)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"on_node": "yes"}, "on_node must be true or false"),
        ({"overlap": "skip"}, "need on_node"),
        ({"after_end": True}, "need on_node"),
        ({"on_node": True, "overlap": "both"}, "overlap must be one of queue, skip, replace"),
        ({"on_node": True, "max_running": 2}, "max_running must be 1"),
        ({"on_node": True, "after_end": True, "overlap": "skip"}, "no overlap"),
    ],
)
def test_what_does_not_go_together_is_refused(told: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Policy.read(told, "one")


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_the_log_clock_takes_the_quickest_reading() -> None:
    clock = LogClock()
    assert clock.time(0.0) is None
    for sent, way in ((0.0, 0.2), (1.0, 0.01), (2.0, 0.5)):
        clock.take(5000.0 + sent, sent + way)
    assert clock.time(3.0) == pytest.approx(5003.0 - 0.01)


def test_a_record_that_is_read_late_does_not_set_the_log_clock_back() -> None:
    clock = LogClock()
    clock.take(5000.0, 0.0)
    clock.take(5001.0, 9.0)
    assert clock.time(9.0) == 5009.0


@pytest.mark.parametrize("to", [1000.0, 9000.0])
def test_the_log_clock_follows_when_the_brokers_clock_is_set(to: float) -> None:
    clock = LogClock()
    clock.take(5000.0, 0.0)
    for second in range(1, 6):
        clock.take(to + second, float(second))
    assert clock.time(6.0) == to + 6
