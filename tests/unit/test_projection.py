"""The projection into the cache of results: settled records, folded in their order, and the place of the fold."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.results.lifecycle import (
    TRANSITIONS,
    State,
    is_settled,
    rank_of,
    record_key,
    record_keys,
    to_celery,
)
from kafka_exec.core.results.projection import Copy, LogPosition, fold
from kafka_exec.core.results.state_record import StateRecord

NOW = 1000.0

Record = tuple[bytes | None, bytes | None]


def record(task_id: str, state: State, **fields: float) -> Record:
    made = StateRecord(task_id, state, to_celery(state), **fields)  # type: ignore[arg-type]
    return record_key(task_id, state).encode(), made.encode()


def folded(*records: Record, expires: float | None = None) -> dict[str, Copy | None]:
    return fold(records, expires=expires, now=NOW)


def test_settled_is_what_nothing_may_follow() -> None:
    assert {state for state in State if is_settled(rank_of(state))} == {s for s in State if not TRANSITIONS[s]}


def test_only_what_is_settled_is_copied() -> None:
    records = [record(f"t-{state.value}", state) for state in State]
    assert folded(*records) == {"t-DONE": Copy(record("t-DONE", State.DONE)[1] or b"", None)}


def test_the_last_record_counts_and_a_tombstone_removes() -> None:
    first, last = (record("a", State.DONE, attempts=n) for n in (1, 2))
    assert folded(first, last) == {"a": Copy(last[1] or b"", None)}
    tombstones = [(key.encode(), None) for key in record_keys("a")]
    assert folded(first, *tombstones) == {"a": None}
    assert folded(*tombstones, last) == {"a": Copy(last[1] or b"", None)}


@pytest.mark.parametrize(
    ("finished", "expires", "lifetime"),
    [(990, 100, 90), (990, None, None), (990, 0, None), (1010, 100, 110), (None, 100, 100)],
)
def test_a_copy_lives_until_the_result_expires(
    finished: float | None, expires: float | None, lifetime: float | None
) -> None:
    fields = {} if finished is None else {"finished": finished}
    (copy,) = folded(record("a", State.DONE, **fields), expires=expires).values()
    assert copy is not None
    assert copy.lifetime == lifetime


@pytest.mark.parametrize("finished", [1, 900, 899.9999])
def test_what_has_expired_is_not_copied(finished: float) -> None:
    assert folded(record("a", State.DONE, finished=finished), expires=100) == {"a": None}


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b'{"schema": 99}'])
def test_what_is_none_of_ours_leaves_no_copy(value: bytes) -> None:
    assert folded(record("a", State.DONE), (b"a", value)) == {"a": None}


@pytest.mark.parametrize("key", [None, b"", b"\xff"])
def test_a_key_that_is_none_of_ours_is_passed_over(key: bytes | None) -> None:
    assert folded((key, record("a", State.DONE)[1])) == {}


RECORDS = st.lists(
    st.builds(record, st.sampled_from("abc"), st.sampled_from(State), attempts=st.integers(1, 9))
    | st.sampled_from([(key.encode(), None) for task_id in "abc" for key in record_keys(task_id)])
)


def kept(batches: Iterable[list[Record]]) -> dict[str, Copy]:
    """The cache after these batches."""
    cache: dict[str, Copy] = {}
    for batch in batches:
        for task_id, copy in folded(*batch).items():
            if copy is None:
                cache.pop(task_id, None)
            else:
                cache[task_id] = copy
    return cache


@given(RECORDS, st.lists(st.integers(0, 30)))
def test_the_cuts_between_batches_make_no_difference(records: list[Record], cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(records)]
    assert kept(records[a:b] for a, b in pairwise(edges)) == kept([records])


@given(st.builds(LogPosition, st.integers(0, 2**62), st.booleans()))
def test_a_place_comes_back(place: LogPosition) -> None:
    assert LogPosition.decode(place.encode()) == place


@pytest.mark.parametrize("value", [None, b"", b"x", b"-1", b" filling"])
def test_where_no_place_is_it_is_the_beginning(value: bytes | None) -> None:
    assert LogPosition.decode(value) == LogPosition(0, False)
