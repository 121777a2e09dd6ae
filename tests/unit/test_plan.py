"""Plans: what each figure follows from, beside a twin that counts each task; and the measures of a log."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.overview.audit import JournalEvent
from kafka_exec.core.overview.planning import amounts
from kafka_exec.core.overview.planning.measure import Measures
from kafka_exec.core.overview.planning.plan import FEWEST, SPARE, Demand, PlanTerms, Present, QueuePlan, plan
from kafka_exec.core.queue.transitions import ENDED, RELEASED, STARTED, Transition
from kafka_exec.errors import ConfigurationError
from tests.unit.twins.traffic import bytes_on_disks, most_at_once, seconds_to_drain, starts

TERMS = PlanTerms(slots=4, kept=7 * 86400.0, states_kept=86400.0, replicas=3)


def planned(demand: Demand, terms: PlanTerms = TERMS, settings: Settings | None = None) -> QueuePlan:
    return plan(demand, terms, settings or Settings())


def steady(rate: float, run: float, keys: int | None = None) -> Demand:
    return Demand(rate, rate, run, keys=keys, busiest=rate / keys if keys else 0.0)


def reason(found: QueuePlan, name: str) -> str:
    return next(each.reason for each in found.figures if each.name == name)


# -- beside the twin ---------------------------------------------------------------------------------------------------


@given(rate=st.integers(1, 20), run=st.integers(1, 60).map(lambda tenths: tenths / 10))
def test_so_many_tasks_run_at_once_as_the_twin_counts(rate: int, run: float) -> None:
    counted = most_at_once(starts(rate, 14), run)
    found = planned(steady(rate, run))
    assert found["running"] == pytest.approx(rate * run)
    assert counted - 1 < found["running"] + 1e-6
    assert found["running"] <= counted + 1e-6
    assert found["slots"] >= found["running"] * SPARE
    assert found["slots"] < found["running"] * SPARE + 1
    assert found["workers"] * TERMS.slots >= found["slots"]


@given(rate=st.integers(1, 5), size=st.integers(1, 5000), kept=st.integers(1, 40), copies=st.integers(1, 5))
def test_so_much_stands_on_the_disks_as_the_twin_counts(rate: int, size: int, kept: int, copies: int) -> None:
    terms = PlanTerms(4, kept, kept / 2, copies)
    found = planned(replace(steady(rate, 1.0), message=size, state=2 * size), terms)
    begins = starts(rate, 100)
    assert found["disk_messages"] == pytest.approx(bytes_on_disks(begins, size, kept, copies, begins[-1]))
    states = bytes_on_disks(begins, 2 * size, kept / 2, copies, begins[-1])
    assert found["disk_states"] == pytest.approx(states, abs=2 * size * copies)
    assert found["disk"] == pytest.approx(sum(found[f"disk_{each}"] for each in ("messages", "journal", "states")))


@given(rate=st.integers(1, 50), run=st.integers(1, 20).map(lambda tenths: tenths / 10), waiting=st.integers(0, 5000))
def test_what_waits_is_done_in_the_time_that_the_twin_takes(rate: int, run: float, waiting: int) -> None:
    found = planned(replace(steady(rate, run), waiting=waiting))
    goes = min(found["workers"] * TERMS.slots / run, found["workers"] * 1000)
    counted = seconds_to_drain(waiting, rate, goes, step=max(waiting, 1) / (goes - rate) / 1000)
    assert found["drain"] == pytest.approx(counted, rel=0.01, abs=0.01)


@given(rate=st.integers(1, 5000), run=st.floats(0, 100), keys=st.none() | st.integers(1, 10**6))
def test_a_plan_holds_for_whatever_comes(rate: int, run: float, keys: int | None) -> None:
    found = planned(steady(rate, run, keys))
    partitions = int(found["partitions"])
    assert found["workers"] >= FEWEST
    assert partitions == keys or (partitions & (partitions - 1) == 0 and partitions >= 2 * found["workers"])
    # A plan is possible as long as there are as many keys as tasks that run at once.
    assert bool(found.obstacles) == (keys is not None and rate * run > keys)
    assert any(each.name == "drain" for each in found.figures) or found.obstacles or keys is not None


# -- figures -----------------------------------------------------------------------------------------------------------


def test_each_figure_says_what_it_follows_from() -> None:
    found = planned(replace(steady(200, 0.5), message=2000))
    assert [(each.name, each.value, each.reason) for each in found.figures] == [
        ("running", 100, "200 tasks/s of 0.5 s each (Little's law)"),
        ("slots", 150, "100 tasks at once, and half as many again for peaks and a lost worker"),
        ("workers", 38, "150 slots, 4 in each worker"),
        ("partitions", 128, "2 for each of 38 workers, as a power of two; more can be added later"),
        ("topics", 16, "14 of the prefix, the queue's and its journal's"),
        ("all_partitions", 81 + 256, "81 of the prefix, and 2 x 128"),
        ("disk_messages", 200 * 2000 * 3 * 7 * 86400, "200 tasks/s x 2.0 kB x 3 replicas x 7 d"),
        ("disk_journal", 200 * 80 * 3 * 7 * 86400, "200 tasks/s x 80 B x 3 replicas x 7 d"),
        ("disk_states", 200 * 570 * 3 * 86400, "200 tasks/s x 570 B x 3 replicas x 1 d"),
        (
            "disk",
            pytest.approx((2080 * 7 + 570) * 200 * 3 * 86400),
            "all three, on all brokers together, without compression",
        ),
        ("drain", pytest.approx(200 * 3600 / 104), "an hour's tasks, and 104 tasks/s more than come"),
    ]


def test_an_app_with_the_usual_partitions_has_as_many_as_its_page_says() -> None:
    found = planned(steady(10, 1.0, keys=16))
    assert (found["topics"], found["all_partitions"]) == (16, 113)  # docs/operations.md, counted
    fewer = Settings(partitions={"exchange": 1, "state": 4, "control": 2})
    assert planned(steady(10, 1.0, keys=16), settings=fewer)["all_partitions"] == 113 - 20 - 12 - 12


def test_empty_tasks_need_workers_that_begin_them() -> None:
    found = planned(steady(5000, 0.0))
    assert (found["workers"], found["running"]) == (8, 0)
    assert reason(found, "workers") == "5,000 tasks/s and half as many again, of which one worker begins 1,000"
    assert reason(planned(steady(1, 0.1)), "workers") == "one may be away"


def test_the_peak_says_how_many_workers_and_the_average_how_much_disk() -> None:
    found = planned(Demand(10, 100, 1.0))
    assert (found["running"], found["slots"]) == (100, 150)
    assert found["disk_messages"] == planned(steady(10, 1.0))["disk_messages"]


def test_ordering_keys_are_given_more_partitions_and_never_more_than_there_are() -> None:
    many, few = planned(steady(20, 1.0, keys=10**6)), planned(steady(20, 1.0, keys=24))
    assert many["partitions"] == 32
    assert "not used by ordering keys" in reason(many, "partitions")
    assert few["partitions"] == 24
    assert planned(steady(20, 1.0))["partitions"] == 16


def test_keys_that_cannot_keep_up_are_told() -> None:
    (told,) = planned(steady(200, 0.5, keys=20)).obstacles
    assert told.startswith("20 ordering keys run 20 tasks at once, that is 40 a second, and 200 come")
    assert not any(each.name == "drain" for each in planned(steady(200, 0.5, keys=20)).figures)
    (told,) = planned(Demand(10, 10, 0.5, busiest=4)).obstacles
    assert told.startswith("one ordering key has 4 tasks/s, and runs 2,")
    assert planned(Demand(10, 10, 0.5, busiest=2)).obstacles == []


def test_states_that_are_never_deleted_are_told_by_the_day() -> None:
    found = planned(steady(1, 1.0), replace(TERMS, states_kept=None))
    assert found["disk_states"] == 570 * 3 * 86400
    assert "so much more each day" in reason(found, "disk_states")


def test_what_there_is_stands_beside_what_is_planned() -> None:
    found = plan(steady(10, 1.0), TERMS, Settings(), Present(3, 8, 2, 16)).facts()["figures"]
    assert {name: each["now"] for name, each in found.items() if each["now"] is not None} == {
        "running": 3,
        "slots": 8,
        "workers": 2,
        "partitions": 16,
    }
    assert found["slots"]["value"] == 15


# -- measures ----------------------------------------------------------------------------------------------------------


def told(kind: str, offset: int, at: float, attempt: int = 1) -> JournalEvent:
    return JournalEvent(Transition(kind, offset, attempt), "one", 0, at)


def measured(*events: JournalEvent, first: int = 0) -> Measures:
    found = Measures(0.0, 3600.0, {"p": first})
    for event in events:
        found.told("p", event)
    return found


def test_rates_sizes_and_keys_are_counted() -> None:
    found = Measures(0.0, 3600.0, {})
    for at, size, key in [(1.0, 100, "a"), (61.0, 200, "a"), (62.0, 300, "b")]:
        found.sent(at, size, key)
    for size in (50, 150):
        found.state(size)
    assert found.demand(2.0, 7) == Demand(3 / 3600, 2 / 60, 2.0, 200.0, 100.0, keys=2, busiest=2 / 3600, waiting=7)
    found.sent(63.0, 300, None)
    demand = found.demand(2.0, 7)
    assert demand is not None
    assert (demand.keys, demand.busiest) == (None, 2 / 3600)


def test_nothing_that_came_is_no_demand() -> None:
    assert Measures(0.0, 3600.0, {}).demand(1.0, 0) is None


def test_a_run_is_from_its_last_begin_to_its_end() -> None:
    assert measured(told(STARTED, 1, 10), told(ENDED, 1, 12)).run == 2
    assert measured(told(STARTED, 1, 10), told(STARTED, 1, 20, 2), told(ENDED, 1, 21, 2)).run == 1
    assert (
        measured(told(STARTED, 1, 10), told(RELEASED, 1, 20), told(STARTED, 1, 30, 2), told(ENDED, 1, 34, 2)).run == 4
    )
    assert measured(told(STARTED, 1, 10), told(ENDED, 1, 12), told(STARTED, 2, 10), told(ENDED, 2, 14)).run == 3


def test_a_run_without_a_begin_took_no_time_if_it_began_in_the_time() -> None:
    assert measured(told(ENDED, 5, 12), first=5).run == 0
    assert measured(told(ENDED, 4, 12), first=5).run is None  # it may have begun before


def test_what_did_not_run_is_no_run() -> None:
    assert measured(told(ENDED, 5, 12, attempt=0)).run is None  # revoked
    assert measured(told(STARTED, 5, 12)).run is None
    assert measured(told(STARTED, 5, 12), told(ENDED, 5, 11)).run == 0  # by another broker's clock


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (890, "890 B"), (999.7, "1.0 kB"), (2000, "2.0 kB"), (9960, "10 kB"), (2e10, "20 GB")],
)
def test_sizes_are_told(number: float, text: str) -> None:
    assert amounts.size_of(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5 s"), (0, "0 s"), (90, "1.5 min"), (7200, "2 h"), (604800, "7 d")]
)
def test_durations_are_told(seconds: float, text: str) -> None:
    assert amounts.duration_of(seconds) == text
    assert amounts.to_seconds(text) == pytest.approx(seconds)


@given(st.sampled_from(["B", "kB", "MB", "GB"]), st.integers(10, 999))
def test_a_size_is_read_as_it_is_told(unit: str, number: int) -> None:
    assert amounts.size_of(amounts.to_bytes(f"{number}{unit}")) == f"{number} {unit}"


@pytest.mark.parametrize("text", ["", "2", "kB", "-1 kB", "2 KB", "1e9 B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no size"):
        amounts.to_bytes(text)
