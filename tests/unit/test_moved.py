"""The messages of a level of delays that were moved: against a set of offsets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.control.delay import at_once
from kafka_exec.core.control.moved import MOST_AHEAD, Moved, decode_request, encode_request

OFFSETS = st.integers(0, 60)
MALFORMED = (b"1", b"[[]]", b'[["x", 1]]', b"[[1, -1]]")


@given(st.lists(st.one_of(st.tuples(st.just("up to"), OFFSETS), st.tuples(st.just("ahead"), st.sets(OFFSETS)))))
def test_it_agrees_with_a_set_of_all_that_were_moved(steps: list[tuple[str, object]]) -> None:
    moved = Moved()
    twin: set[int] = set()
    for kind, what in steps:
        if kind == "ahead":
            moved = moved.and_ahead(what)  # type: ignore[arg-type]
            twin |= what  # type: ignore[operator]
        elif what >= moved.position:  # type: ignore[operator]
            moved = moved.up_to(what)  # type: ignore[arg-type]
            twin |= set(range(what))  # type: ignore[call-overload]
        assert {each for each in range(70) if moved.has(each)} == twin
        assert moved.position not in twin, "the position is that of the first message that waits"
        assert Moved.decode(moved.encode(), 100) == moved


def test_a_position_alone_is_as_it_was_in_earlier_versions() -> None:
    assert Moved(12).encode() == b"12"
    assert Moved.decode(b"12", 12) == Moved(12)
    assert Moved(12, frozenset({14, 15, 16, 20})).encode() == b"12 14-16 20"


@pytest.mark.parametrize("value", [None, b"", b"x", b"-1", b"13", b"3 13", b"3 4-13", b"3 x", b"3  4", b"3 5-4-6"])
def test_what_is_no_position_or_behind_the_end_is_refused(value: bytes | None) -> None:
    with pytest.raises(ValueError, match="expected"):
        Moved.decode(value, 12)


def test_more_offsets_than_anybody_writes_are_refused() -> None:
    assert len(Moved.decode(b"0 1-%d" % MOST_AHEAD, 2**62).ahead) == MOST_AHEAD
    for value in (b"0 1-9000000000", b"0 1-%d 20000-20001" % MOST_AHEAD):
        with pytest.raises(ValueError, match=r"too many|expected"):
            Moved.decode(value, 2**62)


@given(st.dictionaries(st.integers(0, 20), st.lists(st.integers(0, 2**60), min_size=1)))
def test_a_request_is_read_as_it_was_written(places: dict[int, list[int]]) -> None:
    assert decode_request(encode_request(places)) == places


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{}",
        b"[]",
        b'{"move-ahead": 1}',
        b'{"move-ahead": [[]]}',
        b'{"move-ahead": [["x", 1]]}',
        b'{"move-ahead": [[1, -1]]}',
    ],
)
def test_another_record_is_no_request(value: bytes | None) -> None:
    assert decode_request(value) == {}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b'{"id": "a", "eta": "2026-01-01T00:00:00"}', b'{"id": "a", "eta": null}'),
        (b'{"id": "a", "eta": null}', b'{"id": "a", "eta": null}'),
        (b"no object", b"no object"),
        (None, None),
    ],
)
def test_a_task_that_runs_at_once_has_no_time(value: bytes | None, wanted: bytes | None) -> None:
    assert at_once([("headers", value), ("other", b"x")]) == [("headers", wanted), ("other", b"x")]
