"""The counters of tasks: each record is counted once, and the durations are those of its run and of what came before."""

from __future__ import annotations

from typing import Any

import pytest

from kafka_exec.core.results.counters import BOUNDS, MOST_NAMES, OTHER, TaskCounters
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord


def record(state: State, **more: Any) -> StateRecord:
    return StateRecord("t", state, state.value, **{"name": "pay", "queue": "q", **more})


def counted(*records: StateRecord) -> TaskCounters:
    counters = TaskCounters()
    for each in records:
        counters.take(each)
    return counters


def test_each_record_is_counted_with_the_state_before() -> None:
    found = counted(
        record(State.DELAYED),
        record(State.RUNNING, previous=State.DELAYED),
        record(State.SUSPENDED, previous=State.RUNNING),
        record(State.RUNNING, previous=State.SUSPENDED),
        record(State.RUNNING, previous=State.RUNNING),
        record(State.DONE, previous=State.RUNNING),
        record(State.DONE, previous=State.RUNNING),
        record(State.REVOKED, name=None, queue=None),
    )
    assert found.transitions == {
        ("q", "pay", "", "DELAYED"): 1,
        ("q", "pay", "DELAYED", "RUNNING"): 1,
        ("q", "pay", "RUNNING", "SUSPENDED"): 1,
        ("q", "pay", "SUSPENDED", "RUNNING"): 1,
        ("q", "pay", "RUNNING", "RUNNING"): 1,
        ("q", "pay", "RUNNING", "DONE"): 2,
        ("", "", "", "REVOKED"): 1,
    }


@pytest.mark.parametrize(
    ("more", "ran", "waited"),
    [
        ({"created": 10.0, "started": 12.0, "finished": 12.5, "attempts": 1}, 0.5, 2.0),
        ({"created": 10.0, "due": 11.5, "started": 12.0, "finished": 12.5, "attempts": 1}, 0.5, 0.5),
        ({"created": 10.0, "started": 12.0, "finished": 12.5, "attempts": 2}, 0.5, None),
        ({"started": 12.0, "finished": 11.0, "attempts": 1}, 0.0, None),
        ({"created": 10.0, "finished": 12.5, "attempts": 1}, None, None),
        ({"created": 10.0, "started": 12.0, "attempts": 1}, None, None),
    ],
    ids=["first run", "delayed", "a later run", "clock set back", "never started", "no end"],
)
def test_an_end_tells_how_long_a_task_ran_and_waited(
    more: dict[str, Any], ran: float | None, waited: float | None
) -> None:
    found = counted(record(State.DONE, **more))
    assert [each.total for each in found.runs.values()] == ([] if ran is None else [ran])
    assert [each.total for each in found.waits.values()] == ([] if waited is None else [waited])


def test_only_an_end_has_durations() -> None:
    found = counted(record(State.DELAYED, created=1.0, started=2.0, finished=3.0, attempts=1))
    assert not found.runs


def test_a_bucket_counts_all_that_is_not_longer() -> None:
    found = counted(*(record(State.DONE, started=0.0, finished=each) for each in (0.005, 0.0051, 9999.0)))
    buckets = dict(found.runs["q", "pay"].buckets())
    assert [buckets[str(bound)] for bound in BOUNDS[:3]] == [1, 2, 2]
    assert buckets[str(BOUNDS[-1])] == 2
    assert buckets["+Inf"] == 3


def test_more_names_than_a_scrape_should_hold_are_one() -> None:
    found = counted(*(record(State.DONE, name=f"n{each % (MOST_NAMES + 5)}") for each in range(2 * MOST_NAMES)))
    names = {name: number for (_, name, _, _), number in found.transitions.items()}
    assert len(names) == MOST_NAMES + 1
    assert names[OTHER] == 5
    assert sum(names.values()) == 2 * MOST_NAMES
