"""State records: what is written is read again and keeps to the published schema; what is foreign is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import (
    ABSENT,
    LONGEST_TRACEBACK,
    MOST_ERRORS,
    SCHEMA,
    Encoded,
    Note,
    Raised,
    Remark,
    StateRecord,
    TaskError,
    as_result,
)
from kafka_exec.errors import Undecodable

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs" / "state.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(PUBLISHED)

TEXT = st.text(max_size=20)
TIME = st.floats(0, 2e9, allow_nan=False)
COUNT = st.integers(0, 2**40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ERRORS = st.builds(
    TaskError,
    at=TIME,
    type=TEXT,
    message=TEXT,
    worker=st.none() | TEXT,
    attempt=st.none() | COUNT,
    traceback=st.none() | TEXT,
)
OWN = {
    "id": TEXT,
    "state": st.sampled_from(State),
    "status": TEXT,
    "errors": st.lists(ERRORS, max_size=3).map(tuple),
    "remarks": st.lists(st.builds(Remark, TIME, TEXT, TEXT, TEXT), max_size=3).map(tuple),
    "result": st.just(ABSENT) | JSON | st.builds(Encoded, TEXT, TEXT, st.binary(max_size=40)),
    "exception": st.none() | st.builds(Raised, TEXT, JSON, st.none() | TEXT),
    "children": st.none() | st.lists(JSON, max_size=3),
    "args": JSON,
    "kwargs": JSON,
    "previous": st.none() | st.sampled_from(State),
    **dict.fromkeys(("created", "due", "started", "finished"), st.none() | TIME),
    **dict.fromkeys(("attempts", "partition", "offset", "position", "retries"), st.none() | COUNT),
}
RECORDS = st.builds(
    StateRecord, **{each.name: OWN.get(each.name, st.none() | TEXT) for each in dataclasses.fields(StateRecord)}
)

PLAIN = StateRecord("t", State.RUNNING, "STARTED")


@given(RECORDS)
def test_what_is_written_is_read_again_and_keeps_to_the_schema(record: StateRecord) -> None:
    written = record.encode()
    VALIDATOR.validate(json.loads(written))
    assert StateRecord.decode(written) == record


def test_the_schema_is_one_and_knows_every_field() -> None:
    Draft202012Validator.check_schema(PUBLISHED)
    known = set(PUBLISHED["properties"])
    assert known == {each.name for each in dataclasses.fields(StateRecord)} | {
        "schema",
        "content_type",
        "content_encoding",
    }
    assert PUBLISHED["properties"]["schema"]["const"] == SCHEMA
    assert PUBLISHED["properties"]["state"]["enum"] == [state.value for state in State]
    assert PUBLISHED["properties"]["errors"]["maxItems"] == MOST_ERRORS
    assert PUBLISHED["properties"]["errors"]["items"]["properties"]["traceback"]["maxLength"] == LONGEST_TRACEBACK


@pytest.mark.parametrize(
    "change",
    [
        {"id": 7},
        {"state": "LOST"},
        {"schema": 2},
        {"errors": [{"at": 1}]},
        {"content_type": "text/plain"},
        {"content_type": "text/plain", "content_encoding": "binary", "result": 5},
    ],
)
def test_the_schema_refuses_what_a_reader_refuses(change: dict[str, Any]) -> None:
    value = {**PLAIN.as_json(), **change}
    with pytest.raises(ValidationError):
        VALIDATOR.validate(value)
    with pytest.raises(Undecodable):
        StateRecord.decode(json.dumps(value).encode())


def test_what_is_absent_is_left_out() -> None:
    assert json.loads(PLAIN.encode()) == {"schema": 1, "id": "t", "state": "RUNNING", "status": "STARTED"}


def test_none_is_a_result_and_absence_is_not() -> None:
    done = dataclasses.replace(PLAIN, result=None)
    assert json.loads(done.encode())["result"] is None
    assert StateRecord.decode(done.encode()).result is None
    assert StateRecord.decode(PLAIN.encode()).result is ABSENT


@pytest.mark.parametrize(
    ("serialized", "embedded"),
    [
        (("application/json", "utf-8", '{"a": [1, "ü"]}'), {"a": [1, "ü"]}),
        (("application/json", "utf-8", b"null"), None),
        (("application/json", "utf-8", "NaN"), Encoded("application/json", "utf-8", b"NaN")),
        (("application/json", "gzip", b"\x1f"), Encoded("application/json", "gzip", b"\x1f")),
        (("application/x-yaml", "utf-8", "a: ü"), Encoded("application/x-yaml", "utf-8", "a: ü".encode())),
    ],
)
def test_a_serialized_result_is_embedded_if_it_is_json(serialized: tuple[str, str, Any], embedded: Any) -> None:
    assert as_result(*serialized) == embedded


def test_what_is_no_json_is_not_written() -> None:
    for result in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            dataclasses.replace(PLAIN, result=result).encode()


def test_the_last_errors_are_kept_with_the_end_of_their_tracebacks() -> None:
    errors = (TaskError(n, "E", str(n), traceback="x" * LONGEST_TRACEBACK + "end") for n in range(MOST_ERRORS + 3))
    record = PLAIN.with_notes(Note.decode(Note("t", error=error).encode()) for error in errors)
    assert [error.message for error in record.errors] == [str(number) for number in range(3, MOST_ERRORS + 3)]
    assert {len(error.traceback or "") for error in record.errors} == {LONGEST_TRACEBACK}
    assert (record.errors[0].traceback or "").endswith("end")


def test_errors_are_in_the_order_in_which_they_happened() -> None:
    told = [TaskError(at, "E", "m", attempt=attempt) for at, attempt in ((2.5, 2), (1.5, 1), (3.5, 3))]
    found = PLAIN.with_notes(Note("t", error=error) for error in told)
    assert [error.attempt for error in found.errors] == [1, 2, 3]


def test_notes_are_read_as_they_were_written_and_remarks_are_all_kept() -> None:
    remarks = tuple(Remark(n, "ann", str(n), "späť") for n in range(MOST_ERRORS + 3))
    notes = [Note("t", error=TaskError(1, "E", "m")), *(Note("t", remark=remark) for remark in remarks)]
    assert [Note.decode(note.encode()) for note in notes] == notes
    record = PLAIN.with_notes(notes)
    assert (record.state, record.errors, record.remarks) == (PLAIN.state, (TaskError(1, "E", "m"),), remarks)
    for foreign in (b"5", b'{"schema": 1}', b'{"schema": 1, "id": "t", "error": {"at": 1}}'):
        with pytest.raises(Undecodable):
            Note.decode(foreign)


@pytest.mark.parametrize(
    ("state", "place", "ends", "also_failed"),
    [
        (State.DONE, ("q", 1, 2), True, True),
        (State.REVOKED, ("q", 1, 2), True, True),
        (State.FAILED, ("q", 1, 2), False, True),
        (State.RUNNING, ("q", 1, 2), False, False),
        (State.DONE, ("q.p1", 1, 2), False, False),
        (State.DONE, ("q", 1, 3), False, False),
    ],
)
def test_an_end_is_that_of_one_message(
    state: State, place: tuple[str, int, int], ends: bool, also_failed: bool
) -> None:
    record = dataclasses.replace(PLAIN, state=state, topic="q", partition=1, offset=2)
    assert record.ends_run_of(place, also_failed=False) is ends
    assert record.ends_run_of(place, also_failed=True) is also_failed


def test_unknown_fields_are_ignored() -> None:
    value = {**PLAIN.as_json(), "mood": "good", "errors": [{"at": 1, "type": "E", "message": "m", "mood": 1}]}
    assert StateRecord.decode(json.dumps(value).encode()).errors == (TaskError(1, "E", "m"),)


@pytest.mark.parametrize(
    ("value", "reason", "message"),
    [
        (b"\xff\x00", "no-state-record", "is not JSON"),
        (b"", "no-state-record", "no JSON object with a schema version"),
        (b"[" * 100_000, "no-state-record", "is not JSON"),
        (b"5", "no-state-record", "no JSON object with a schema version"),
        (b'{"id": "t"}', "no-state-record", "no JSON object with a schema version"),
        (b'{"schema": 2}', "unknown-schema", "schema version 2, this reader knows 1: update it"),
        (b'{"schema": 1}', "no-state-record", "lacks a field of its StateRecord"),
        (b'{"schema": 1, "id": 5, "state": "DONE", "status": "S"}', "no-state-record", "a wrong id 5"),
        (b'{"schema": 1, "id": "t", "state": [], "status": "S"}', "no-state-record", "a wrong state"),
        (b'{"schema": 1, "id": "t", "state": "DONE", "status": "S", "errors": 1}', "no-state-record", "wrong errors"),
        (b'{"schema": 1, "id": "t", "state": "DONE", "status": "S", "errors": [1]}', "no-state-record", "has 1 where"),
        (
            b'{"schema": 1, "id": "t", "state": "DONE", "status": "S", "content_type": "x", '
            b'"content_encoding": "y", "result": "!"}',
            "no-state-record",
            "is not base64",
        ),
    ],
)
def test_what_is_foreign_is_refused(value: bytes, reason: str, message: str) -> None:
    with pytest.raises(Undecodable, match=message) as caught:
        StateRecord.decode(value)
    assert caught.value.reason == reason


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_record_or_refused(value: bytes) -> None:
    with pytest.raises(Undecodable):
        StateRecord.decode(value)


@given(RECORDS, st.sampled_from(sorted(PUBLISHED["properties"])), JSON)
def test_any_damage_is_a_record_or_refused(record: StateRecord, name: str, value: Any) -> None:
    damaged = {**record.as_json(), name: value}
    try:
        StateRecord.decode(json.dumps(damaged).encode())
    except Undecodable:
        pass
