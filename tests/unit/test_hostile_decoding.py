"""Decoders of records with any content: each reads it, or raises its own error that it cannot, and no other one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kafka_exec.core.beat.claimlog import ClaimLog, Signal, restored
from kafka_exec.core.control.chord import ChordReducer
from kafka_exec.core.control.delay import DelayHeaders, eta_of
from kafka_exec.core.control.reducers import Command, Reducers
from kafka_exec.core.control.waiting import WaitingReducer
from kafka_exec.core.message import envelope
from kafka_exec.core.message.dead import Letter, LetterAddress, Marked, is_mark, mark
from kafka_exec.core.message.taskmessage import as_task
from kafka_exec.core.message.window import step_of
from kafka_exec.core.nodes.heartbeat import Heartbeat, Seen, roll
from kafka_exec.core.nodes.liveness import Liveness
from kafka_exec.core.queue.checkpoints import add_checkpoint, encode_checkpoint
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.pausing import Pause, pauses_in, row_names
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.record import fields
from kafka_exec.core.results.projection import LogPosition, fold
from kafka_exec.core.results.state_record import Note, StateRecord
from kafka_exec.core.worker.sharing import Grant
from kafka_exec.errors import Undecodable
from kafka_exec.transport.values import from_json
from tests.unit.hostile import (
    BODY,
    HEADERS,
    HEARTBEAT,
    NASTY,
    NOW,
    OLD,
    PROPERTIES,
    changelog,
    changelog_of_waits,
    chord_commands,
    dump,
    journal,
    mutated,
    mutations,
    signals,
    states,
    wait_commands,
)

Decoder = Callable[[bytes | None], Any]


def read_journal(value: bytes | None) -> None:
    found = Ledger("q", Progress(0))
    add_checkpoint(found, value)
    found.apply(value)
    # What was understood must be writable, and readable again, whole.
    again = Ledger("q", Progress(0))
    assert all(add_checkpoint(again, part) for part in encode_checkpoint(found, "i"))
    assert (again.leases, again.holds, again.parked) == (found.leases, found.holds, found.parked)


def read_heartbeat(value: bytes | None) -> None:
    grants = Grant.decode(value)
    assert all(isinstance(each.offset, int) for each in grants)
    if (found := Heartbeat.decode(value)) is not None:
        living = Liveness("me", 1.0)
        living.take(found, NOW)
        living.peers()
        roll([Seen("n", found, NOW)], now=NOW, period=1.0)
        assert 0 < found.pid < 2**31


def reducers() -> Reducers:
    return Reducers(
        {
            "chord": lambda: ChordReducer(unfinished=100.0, fired=100.0),
            "wait": lambda: WaitingReducer(early=100.0, remembered=100.0),
        }
    )


def read_command(value: bytes | None) -> None:
    made = reducers()
    try:
        made.take(Command.decode(value), NOW)
    except Undecodable:
        return
    made.due(NOW + 1000)
    assert made.next_timer is None or made.next_timer > 0


def read_changelog(value: bytes | None, name: str = "chord", commands: Sequence[bytes] = ()) -> None:
    made = reducers()
    try:
        found = json.loads(value or b"null")
        key, content = json.dumps(found["key"]), json.dumps(found["value"]).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        key, content = (value or b"").decode(errors="replace"), value or b""
    for _ in range(2):
        try:
            made.restore(f"{name}:{key}", content)
        except Undecodable:
            break
    for command in commands or chord_commands():
        made.take(Command.decode(command), NOW)
    made.due(NOW + 1000)


def read_signal(value: bytes | None) -> None:
    try:
        found = Signal.decode(value)
    except Undecodable:
        return
    log = restored([found]) or ClaimLog()
    log.take(found, log.next, NOW)
    for entry, standing in log.all().items():
        assert standing.last() is None or standing.last() > -1e12, entry
    for each in log.checkpoint("n"):
        Signal.decode(each.encode())


def read_state(value: bytes | None) -> None:
    for kind in (StateRecord, Note):
        try:
            found = kind.decode(value)
        except Undecodable:
            continue
        with suppress(ValueError):  # its result is no JSON
            found.encode()
        found.id.encode()
    fold([(b"t", value), (b"\xff", value), (None, value)], expires=60.0, now=NOW)


def read_pause(value: bytes | None) -> None:
    try:
        row = fields.from_json(value)
    except ValueError:
        return  # the reader of the table passes it over
    for pauses in pauses_in([(json.dumps(row_names("q", key)), row) for key in (None, "k")]).values():
        pauses.in_force(NOW).of("k", NOW)
        json.dumps(pauses.keys["k"]._asdict()).encode()


LOGS: dict[str, tuple[Callable[[], Sequence[bytes]], Decoder]] = {
    "journal": (journal, read_journal),
    "heartbeats": (lambda: [HEARTBEAT.encode(), Grant.encode([Grant("i", "q", 0, 5, 1, "id", 7)])], read_heartbeat),
    "commands": (chord_commands, read_command),
    "changelog": (changelog, read_changelog),
    "commands of suspensions": (wait_commands, read_command),
    "changelog of suspensions": (
        changelog_of_waits,
        lambda value: read_changelog(value, "wait", wait_commands()),
    ),
    "claims": (signals, read_signal),
    "states and notes": (states, read_state),
    "pauses": (lambda: [dump(Pause("ann", NOW, "a move", NOW + 1)._asdict())], read_pause),
    "marks": (lambda: [mark([1, 5])[0]], lambda value: Marked(0, 10).take(value)),
    "places": (lambda: [LogPosition(5).encode(), LogPosition(5, True).encode()], LogPosition.decode),
    "positions": (
        lambda: [b"2 5 3 1-4 7", b"3 q 5 1 3 1-4 7"],
        lambda value: Progress.restore(3, (value or b"").decode(errors="replace")),
    ),
}


@pytest.mark.parametrize("log", LOGS)
def test_what_is_ours_is_read(log: str) -> None:
    records, read = LOGS[log]
    for record in records():
        read(record)


@pytest.mark.parametrize("log", LOGS)
@given(data=st.data())
def test_whatever_stands_in_a_log_it_is_read_or_refused(log: str, data: st.DataObject) -> None:
    records, read = LOGS[log]
    read(data.draw(st.sampled_from(records()).flatmap(mutated)))


@pytest.mark.parametrize("log", LOGS)
def test_each_value_of_each_record_may_be_anything(log: str) -> None:
    """Every value at every place of every record that we write, one after the other."""
    records, read = LOGS[log]
    for record in records():
        for changed in mutations(record, random.Random(7)):
            read(changed)


# -- messages ----------------------------------------------------------------------------------------------------------


def message(headers: bytes, properties: bytes, body: bytes | None) -> envelope.RecordHeaders:
    return [
        ("kafka-exec-version", b"1"),
        ("content-type", b"application/json"),
        ("content-encoding", b"utf-8"),
        ("exchange", b""),
        ("routing-key", b"q"),
        ("headers", headers),
        ("properties", properties),
        ("ordering-key", b"k"),
        ("deduplication-id", b"d"),
        ("retry-of", b"q/0/5"),
        ("keys-over", b"16"),
        ("delay-queue", b"q"),
        ("delay-step", b"1"),
        ("delay-until", repr(NOW).encode()),
        ("dead-reason", b"rejected"),
        ("dead-error", b"e"),
        ("dead-topic", b"q"),
        ("dead-partition", b"0"),
        ("dead-offset", b"5"),
        ("replayed-from", b'{"count": 1}'),
    ]


def read_message(headers: Any, body: bytes | None) -> None:
    envelope.ticket_of(headers, body, "q", 0)
    envelope.ticket_of(headers, body, "q", 0, restarted=True)
    envelope.keys_over(headers)
    try:
        DelayHeaders.read(headers)
    except Undecodable:
        pass
    letter = Letter(LetterAddress(0, 1), NOW, b"\xff", body, list(headers))
    letter.as_json()
    json.dumps(letter.as_json())
    assert not is_mark(headers)
    try:
        found = envelope.decode(headers, body, from_json)
    except Undecodable:
        return
    letter.headers_again("dead")
    _ = letter.value_again, letter.obstacle
    eta_of(found)
    envelope.expired(found, NOW, 5.0, NOW + 10)
    step_of(found.properties.get("priority"), 9)
    for payload in (BODY, OLD, found.body):
        try:
            told = as_task(found.headers, payload)
        except Undecodable:
            continue
        assert told["id"].encode()
        assert told["task"].encode()
        assert (told.get("retries") or 0) >= 0


@given(data=st.data())
def test_whatever_a_message_says_it_is_read_or_refused(data: st.DataObject) -> None:
    headers = message(
        data.draw(mutated(dump(HEADERS))),
        data.draw(mutated(dump(PROPERTIES))),
        None,
    )
    number = data.draw(st.integers(0, len(headers) - 1))
    headers[number] = (headers[number][0], data.draw(st.sampled_from(NASTY) | st.binary(max_size=20) | st.none()))  # type: ignore[call-overload]
    body = data.draw(mutated(dump(data.draw(st.sampled_from([BODY, OLD])))))
    read_message(headers, body)


def test_each_header_of_a_message_may_be_anything() -> None:
    rng = random.Random(7)
    for changed in mutations(dump(HEADERS), rng):
        read_message(message(changed, b"{}", None), dump(BODY))
    for changed in mutations(dump(PROPERTIES), rng):
        read_message(message(dump(HEADERS), changed, None), dump(BODY))
    for changed in mutations(dump(OLD), rng):
        read_message(message(b"{}", b"{}", None), changed)
    for number, (name, _) in enumerate(message(b"", b"", None)):
        for nasty in (*NASTY, None):
            headers: list[tuple[str, bytes | None]] = list(message(dump(HEADERS), b"{}", None))
            headers[number] = (name, nasty)
            read_message(headers, dump(BODY))
            read_message([*headers, (name, b"twice")], dump(BODY))


def broken(headers: Any = None, payload: Any = None) -> str:
    with pytest.raises(Undecodable) as caught:
        as_task({**HEADERS, **(headers or {})}, BODY if payload is None else payload)
    return caught.value.reason


@pytest.mark.parametrize("value", [7, [1], {"a": 1}, 1.5, True, "\udcff", "", None])
def test_an_id_is_a_text(value: Any) -> None:
    assert broken({"id": value}) == "bad-task"


@pytest.mark.parametrize("name", ["root_id", "parent_id", "group", "eta", "expires", "ordering_key", "shadow"])
@pytest.mark.parametrize("value", [7, [1], {"a": 1}])
def test_what_must_be_a_text_is_one(name: str, value: Any) -> None:
    assert broken({name: value}) == "bad-task"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("retries", value) for value in ("three", -1, 1.5, float("inf"), 2**63, True)),
        *(("timelimit", value) for value in ("ab", [1], [1, 2, 3], ["a", None], [float("nan"), None])),
        *(("task_version", value) for value in ({"a": 1}, 1.5)),
        *(("stamped_headers", value) for value in ("text", [1], 5)),
        ("stamps", []),
        ("headers", "x"),
        ("kafka_created", 1e300),
        ("kafka_repeated", "yes"),
    ],
)
def test_what_nobody_could_run_is_refused(name: str, value: Any) -> None:
    assert broken({name: value}) == "bad-task"


@pytest.mark.parametrize("task", [None, 5, "", ["t"], {}])
def test_a_tasks_name_is_a_text(task: Any) -> None:
    assert broken({"task": task}) == "not-a-task"


@pytest.mark.parametrize(
    "payload",
    [
        [],
        [1],
        [[], {}],
        [[], {}, {}, {}],
        "abc",
        5,
        [{}, [], {}],
        [[], None, {}],
        [[], {}, 5],
        [[], {}, [1]],
        [[], {}, {"callbacks": "x"}],
        [[], {}, {"chain": [5]}],
        [[], {}, {"chord": []}],
        [[], {}, {"errbacks": 1}],
    ],
)
def test_a_body_has_arguments_names_and_options(payload: Any) -> None:
    assert broken(payload=payload) == "bad-task"


def test_the_old_protocol_has_its_facts_in_the_body() -> None:
    told = as_task({"own": 1}, {**OLD, "taskset": "g", "other": 5})
    assert told == {"own": 1, "task": "t", "id": "i", "retries": 2, "eta": None, "expires": None, "group": "g"}
    with pytest.raises(Undecodable, match="no id"):
        as_task({}, {"task": "t"})
    with pytest.raises(Undecodable, match="name a task"):
        as_task({}, {"id": "t"})


@example("2030-01-01T00:00:00Z")
@given(st.text())
def test_any_text_may_stand_as_a_time(eta: str) -> None:
    assert as_task({**HEADERS, "eta": "x" + eta.encode(errors="ignore").decode()}, BODY)["task"] == "t"
