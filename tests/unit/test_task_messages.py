"""Task messages of both protocols: the queues to which they go, their waits, and their dead letters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kafka_exec.core.control.delay import eta_of
from kafka_exec.core.message.dead import Letter, LetterAddress, RawHeaders
from kafka_exec.core.message.envelope import (
    CUT,
    Message,
    cut,
    dead_letter_headers,
    decode,
    encode,
    expired,
    short_key,
    ticket_of,
)
from kafka_exec.core.message.taskmessage import facts
from kafka_exec.core.queue.lanes import Lane, Run, Ticket

OLD = {
    "task": "t",
    "id": "i",
    "args": [1],
    "kwargs": {},
    "retries": 2,
    "eta": "2030-01-01T00:00:00+00:00",
    "expires": None,
}


def old(headers: dict[str, Any] | None = None, **changes: Any) -> Message:
    body = json.dumps({**OLD, **changes}).encode()
    return Message(body, "application/json", "utf-8", headers or {}, {"expiration": "1000"}, "", "q")


def letter(headers: RawHeaders, value: bytes | None) -> Letter:
    why = dead_letter_headers(headers, reason="rejected", error="e", topic="q", partition=0, offset=1)
    return Letter(LetterAddress(0, 1), 0.0, b"k", value, why)


def test_the_old_protocols_facts_are_looked_for_in_the_body() -> None:
    message = old()
    assert message.key == "i"
    assert eta_of(message) == 1893456000.0
    assert expired(message, 0.0, None, 1e9)
    assert not expired(old(expires="2030-01-01"), 0.0, None, 1e9)
    found = letter(list(encode(message)), message.body)
    assert (found.task, found.id) == ("t", "i")


def test_the_old_protocols_place_in_a_lane() -> None:
    message = old({"ordering_key": "k"})
    assert ticket_of(encode(message), message.body, "q", 0) == Ticket(Lane("key", "k"), Run("i", 2), task="t")
    assert ticket_of(encode(old()), old().body, "q", 0, restarted=True) == Ticket(
        Lane("id", "i"), Run("i", 2), task="t"
    )


def test_a_replayed_task_of_the_old_protocol_has_all_its_retries() -> None:
    message = old()
    found = letter(list(encode(message)), message.body)
    assert json.loads(found.value_again or b"") == {**OLD, "retries": 0}
    assert dict(found.headers_again("dead"))["headers"] == b"{}"
    new = letter(
        list(encode(Message(b"[]", "application/json", "utf-8", {"task": "t", "id": "i", "retries": 2}, {}))), b"[]"
    )
    assert new.value_again == b"[]"
    assert json.loads(dict(new.headers_again("dead"))["headers"] or b"")["retries"] == 0


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"task": "t"', "application/json"),
        (b'["task"]', "application/json"),
        (b'{"type": "\\"task\\""}', "application/json"),
        (json.dumps(OLD).encode(), "application/x-python-serialize"),
        (None, "application/json"),
    ],
)
def test_of_other_bodies_nothing_is_known(body: bytes | None, content_type: str) -> None:
    assert facts({}, body, content_type) == {}


def test_a_letter_that_is_too_large_keeps_what_is_short() -> None:
    long = [("content-type", b"application/json"), ("long", b"x" * 5000), *((f"h{n}", b"x") for n in range(500))]
    why = dead_letter_headers(long, reason="bad-task", error="e" * 5000, topic="q", partition=3, offset=7)
    kept = cut(why)
    assert sum(len(name) + len(value or b"") for name, value in kept) < 10_000
    found = Letter(LetterAddress(0, 1), 0.0, None, None, kept)
    assert found.reason == "bad-task"
    assert found.origin == ("q", 3, 7)
    assert found.obstacle == "its message was too large to be kept whole: send it again"
    assert dict(kept)["content-type"] == b"application/json"
    assert CUT in dict(kept)
    assert (short_key(None), short_key(b"k"), short_key(b"k" * 5000)) == (None, b"k", None)


def test_what_a_message_says_is_what_comes() -> None:
    sent = old({"own": {"__type__": "unknown", "__value__": 1}})
    assert decode(encode(sent), sent.body) == sent
