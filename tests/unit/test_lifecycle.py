"""The states of a task: one table of transitions, Celery's words, and keys that a compaction cannot harm."""

from __future__ import annotations

from itertools import pairwise

import pytest
from celery import states
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.results.lifecycle import (
    TERMINAL,
    TRANSITIONS,
    Rank,
    State,
    may_follow,
    of_celery,
    previous,
    rank_of,
    record_key,
    record_keys,
    split_key,
    strongest,
    task_id_of,
    to_celery,
)

STATES = st.sampled_from(State)
IDS = st.text("ab/", min_size=1, max_size=4) | st.sampled_from(
    ["a/done", "a/stopped", "a/progress", "a/stopped/done", "/done", "a/done/", "done", "0b1c-2d", "ü/progress"]
)

# Transitions


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == {None, *State}


@pytest.mark.parametrize(
    ("current", "new"),
    [
        (None, State.SCHEDULED),
        (None, State.DONE),
        (State.SCHEDULED, State.WAITING),
        (State.WAITING, State.RUNNING),
        (State.WAITING, State.REVOKED),
        (State.WAITING, State.DONE),
        (State.DELAYED, State.WAITING),
        (State.GROUP, State.RUNNING),
        (State.WRONG_NODE, State.FAILED),
        (State.RUNNING, State.RUNNING),
        (State.RUNNING, State.WAITING),
        (State.RUNNING, State.DELAYED),
        (State.RUNNING, State.SUSPENDED),
        (State.SUSPENDED, State.WAITING),
        (State.SUSPENDED, State.FAILED),
        (State.FAILED, State.DONE),
        (State.REVOKED, State.DONE),
    ],
)
def test_a_task_may_go_on(current: State | None, new: State) -> None:
    assert may_follow(new, current)


@pytest.mark.parametrize(
    ("current", "new"),
    [
        *((state, State.SCHEDULED) for state in State),
        *((State.DONE, state) for state in State),
        *((ended, state) for ended in (State.FAILED, State.REVOKED) for state in State if state is not State.DONE),
        (State.SUSPENDED, State.DONE),
        (State.SUSPENDED, State.SUSPENDED),
        (State.SUSPENDED, State.DELAYED),
    ],
)
def test_a_task_may_not_go_back(current: State, new: State) -> None:
    assert not may_follow(new, current)


def test_nothing_but_an_end_follows_an_end() -> None:
    for state in TERMINAL:
        assert TRANSITIONS[state] <= TERMINAL


@pytest.mark.parametrize(
    ("new", "told", "before"),
    [
        (State.RUNNING, (False, False), State.SCHEDULED),
        (State.RUNNING, (False, True), State.DELAYED),
        (State.RUNNING, (True, True), State.RUNNING),
        (State.DONE, (True, False), State.RUNNING),
        (State.DONE, (True, True), State.RUNNING),
        (State.DONE, (False, True), State.DELAYED),
        (State.DELAYED, (True, False), State.RUNNING),
        (State.REVOKED, (False, False), State.SCHEDULED),
    ],
)
def test_what_was_told_before_a_state(new: State, told: tuple[bool, bool], before: State) -> None:
    started, retried = told
    assert previous(started=started, retried=retried) is before
    assert may_follow(new, before)


# Celery's words


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.REVOKED, State.RUNNING, State.SUSPENDED])
def test_what_celery_has_a_word_for_comes_back(state: State) -> None:
    assert of_celery(to_celery(state)) is state


def test_a_task_that_waits_is_pending_unless_it_waits_for_a_retry() -> None:
    waiting = {State.SCHEDULED, State.WAITING, State.DELAYED, State.GROUP, State.WRONG_NODE}
    assert {to_celery(state) for state in waiting} == {states.PENDING}
    assert to_celery(State.DELAYED, retrying=True) == states.RETRY
    assert to_celery(State.RUNNING, retrying=True) == states.STARTED


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (states.PENDING, State.WAITING),
        (states.RECEIVED, State.WAITING),
        (states.STARTED, State.RUNNING),
        (states.RETRY, State.DELAYED),
        (states.SUCCESS, State.DONE),
        (states.FAILURE, State.FAILED),
        (states.REVOKED, State.REVOKED),
        (states.IGNORED, State.FAILED),
        (states.REJECTED, State.FAILED),
        ("SUSPENDED", State.SUSPENDED),
        ("PROGRESS", State.RUNNING),
    ],
)
def test_of_celery(status: str, state: State) -> None:
    assert of_celery(status) is state


@pytest.mark.parametrize("status", sorted(states.READY_STATES | states.UNREADY_STATES))
def test_what_is_ready_to_celery_has_ended_here(status: str) -> None:
    assert (of_celery(status) in TERMINAL) == (status in states.READY_STATES | {states.REJECTED})


# Keys


@pytest.mark.parametrize(
    ("task_id", "state", "key"),
    [
        ("a", State.DONE, "a"),
        ("a", State.FAILED, "a/stopped"),
        ("a", State.REVOKED, "a/stopped"),
        ("a", State.RUNNING, "a/progress"),
        ("a", State.WAITING, "a/progress"),
        ("a/b", State.DONE, "a/b"),
        ("a/stopped", State.DONE, "a/stopped/done"),
        ("a/done", State.DONE, "a/done/done"),
        ("a/stopped", State.FAILED, "a/stopped/stopped"),
    ],
)
def test_record_key(task_id: str, state: State, key: str) -> None:
    assert record_key(task_id, state) == key
    assert task_id_of(key) == task_id


@given(IDS, STATES)
def test_a_key_says_whose_it_is(task_id: str, state: State) -> None:
    key = record_key(task_id, state)
    assert split_key(key) == (task_id, rank_of(state))
    assert key in record_keys(task_id)
    assert len(set(record_keys(task_id))) == len(Rank)


@given(IDS, IDS)
def test_two_tasks_share_no_key(one: str, other: str) -> None:
    assert one == other or not set(record_keys(one)) & set(record_keys(other))


# What a reader sees

Log = list[tuple[str, State]]


def view(log: Log) -> State | None:
    """The plain fold: the last record of each key."""
    last = dict(log)
    return strongest({split_key(key)[1]: state for key, state in last.items()})


def compacted(log: Log, upto: int) -> Log:
    """Kafka's: before a point, only the last record of each key stays."""
    last = {key: place for place, (key, _) in enumerate(log[:upto])}
    return [record for place, record in enumerate(log) if place >= upto or last[record[0]] == place]


@given(writes=st.lists(STATES, max_size=12), points=st.lists(st.integers(0, 12), max_size=4))
def test_a_compaction_changes_no_readers_view(writes: list[State], points: list[int]) -> None:
    """Writes of any processes, however late; compactions at any points, one after the other."""
    log = [(record_key("t", state), state) for state in writes]
    smaller = log
    for point in points:
        smaller = compacted(smaller, point)
        assert view(smaller) == view(log)


@given(st.lists(STATES, max_size=12))
def test_an_end_stays_an_end(writes: list[State]) -> None:
    log = [(record_key("t", state), state) for state in writes]
    seen = [view(log[:length]) for length in range(len(log) + 1)]
    for before, after in pairwise(seen):
        assert before not in TERMINAL or after in TERMINAL
        assert before is not State.DONE or after is State.DONE


def test_nothing_is_known_of_a_task_without_records() -> None:
    assert strongest({}) is None
