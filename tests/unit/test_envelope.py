"""The record format: what is written can be read, what is foreign is refused with its reason."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.message.envelope import (
    Message,
    RecordHeaders,
    bind,
    created_at,
    dead_letter_headers,
    decode,
    encode,
    expired,
    keys_over,
)
from kafka_exec.errors import Undecodable, Unwritable
from kafka_exec.kafka.publish.partitioner import partition_again, partition_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(st.characters(), max_size=10), JSON, max_size=5)
WORDS = st.text(max_size=20)


def message(**fields: Any) -> Message:
    found = {"body": b"[]", "content_type": "application/json", "content_encoding": "utf-8", "headers": {}}
    return Message(**{**found, "properties": {}, **fields})


@given(
    st.builds(
        Message,
        body=st.binary(),
        content_type=st.text(min_size=1, max_size=20),
        content_encoding=st.text(min_size=1, max_size=20),
        headers=OBJECTS,
        properties=OBJECTS,
        exchange=WORDS,
        routing_key=WORDS,
    )
)
def test_any_message_comes_back(sent: Message) -> None:
    assert decode(encode(sent), sent.body) == sent


@pytest.mark.parametrize("body", [b"", b"|||", b"\x00\xff|||\x80", b'{"a": 1}', bytes(range(256))])
def test_the_bodys_bytes_are_the_value(body: bytes) -> None:
    sent = message(body=body)
    assert all(body not in value for _, value in encode(sent) if len(body) > 2)
    assert decode(encode(sent), body).body == body


def test_a_record_can_be_read_by_any_tool() -> None:
    sent = message(
        headers={"task": "shop.zählen", "id": "1"}, properties={"priority": 3}, exchange="x", routing_key="a.b"
    )
    assert encode(sent) == [
        ("kafka-exec-version", b"1"),
        ("content-type", b"application/json"),
        ("content-encoding", b"utf-8"),
        ("exchange", b"x"),
        ("routing-key", b"a.b"),
        ("headers", '{"task":"shop.zählen","id":"1"}'.encode()),
        ("properties", b'{"priority":3}'),
    ]


def test_a_lone_surrogate_in_a_header_is_still_valid_json() -> None:
    sent = message(headers={"file": "\udcff.txt"})
    [text] = [value for name, value in encode(sent) if name == "headers"]
    assert json.loads(text.decode()) == {"file": "\udcff.txt"}


def test_what_json_does_not_know_is_refused_by_its_name() -> None:
    with pytest.raises(Unwritable, match="the header 'odd' cannot be sent"):
        encode(message(headers={"plain": (1, 2), 5: None, "odd": {1, 2}}))
    with pytest.raises(Unwritable, match="the property 'odd' cannot be sent"):
        encode(message(properties={"odd": object()}))


@pytest.mark.parametrize("name", ["ordering_key", "deduplication_id", "retry_of"])
@pytest.mark.parametrize("value", [5, b"k", ["k"], "\udcff"])
def test_our_own_headers_are_texts(name: str, value: Any) -> None:
    with pytest.raises(Unwritable, match=name):
        encode(message(headers={name: value}))


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"id": "task-1"}, "task-1"),
        ({}, "pidbox"),
        ({"id": None}, "pidbox"),
        ({"id": 7}, "pidbox"),
    ],
)
def test_the_key_is_the_tasks_id(headers: dict[str, Any], key: str) -> None:
    assert message(headers=headers, routing_key="pidbox").key == key


def test_a_record_with_a_content_type_only_is_a_message() -> None:
    assert decode([("content-type", b"text/plain")], None) == Message(b"", "text/plain", "utf-8", {}, {})


GOOD = encode(message())


def having(name: str, value: bytes | None) -> list[tuple[str, bytes | None]]:
    return [*GOOD, (name, value)]


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


@pytest.mark.parametrize(
    ("headers", "reason", "error"),
    [
        (None, "no-content-type", "no content-type header"),
        ([], "no-content-type", "no content-type header"),
        ([("x", b"y")], "no-content-type", "no content-type header"),
        (having("content-type", b""), "no-content-type", "no content-type header"),
        (having("content-type", None), "no-content-type", "no content-type header"),
        (having("content-type", b"\xff"), "bad-headers", "cannot be read"),
        (having("kafka-exec-version", b"2"), "unknown-version", "format version b'2'"),
        (having("kafka-exec-version", b""), "unknown-version", "format version b''"),
        (having("kafka-exec-version", b"9" * 10**6), "unknown-version", "format version b'9"),
        (having("headers", b"{"), "bad-headers", "cannot be read"),
        (having("headers", b"\xff\xfe"), "bad-headers", "cannot be read"),
        (having("headers", b"[]"), "bad-headers", "a JSON object is expected, not list"),
        (having("headers", b"null"), "bad-headers", "a JSON object is expected, not NoneType"),
        (having("headers", b'{"a":' + b"1" * 5000 + b"}"), "bad-headers", "cannot be read"),
        (having("headers", DEEP), "bad-headers", "cannot be read"),
        (having("properties", b"7"), "bad-headers", "a JSON object is expected, not int"),
        (having("routing-key", b"\xc3"), "bad-headers", "cannot be read"),
        (having("exchange", b"\xc3"), "bad-headers", "cannot be read"),
        (having("content-encoding", b"\xc3"), "bad-headers", "cannot be read"),
    ],
    ids=lambda value: repr(value)[-60:],
)
def test_a_foreign_record_is_refused_with_its_reason(headers: Any, reason: str, error: str) -> None:
    with pytest.raises(Undecodable, match=error) as caught:
        decode(headers, b"x")
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 300


@given(
    st.lists(
        st.tuples(
            st.sampled_from([name for name, _ in GOOD]) | st.text(max_size=5),
            st.none() | st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()),
        )
    ),
    st.none() | st.binary(),
)
def test_any_record_is_a_message_or_undecodable(headers: list[tuple[str, bytes | None]], value: bytes | None) -> None:
    try:
        found = decode([*GOOD, *headers], value)
    except Undecodable:
        return
    assert found.body == (value or b"")
    assert isinstance(expired(found, 0.0, 5.0, 1.0), bool)


@pytest.mark.parametrize(
    ("properties", "headers", "queue_ttl", "age", "gone"),
    [
        ({}, {}, None, 1e9, False),
        ({"expiration": "1000"}, {}, None, 0.999, False),
        ({"expiration": "1000"}, {}, None, 1.0, True),
        ({"expiration": 1000}, {}, None, 1.0, True),
        ({"expiration": "0"}, {}, None, 0.0, True),
        ({}, {}, 2.0, 1.999, False),
        ({}, {}, 2.0, 2.0, True),
        ({}, {}, 0.0, 0.0, True),
        ({"expiration": "1000"}, {}, 2.0, 1.5, True),
        ({"expiration": "3000"}, {}, 2.0, 2.5, True),
        ({"expiration": "3000"}, {}, 2.0, 1.5, False),
        ({"expiration": "1000"}, {"expires": "2030-01-01T00:00:00"}, 1.0, 1e9, False),
        ({"expiration": "1000"}, {"expires": None}, None, 1.0, True),
        ({"expiration": None}, {}, None, 1e9, False),
        ({"expiration": "soon"}, {}, None, 1e9, False),
        ({"expiration": "soon"}, {}, 2.0, 2.0, True),
        ({"expiration": []}, {}, None, 1e9, False),
        ({"expiration": float("inf")}, {}, None, 1e9, False),
        ({"expiration": float("nan")}, {}, None, 1e9, False),
        ({"expiration": 10**400}, {}, None, 1e9, False),
        ({"expiration": 10**400}, {}, 2.0, 2.0, True),
    ],
)
def test_expired(
    properties: dict[str, Any], headers: dict[str, Any], queue_ttl: float | None, age: float, gone: bool
) -> None:
    written = 1_700_000_000.0
    found = message(properties=properties, headers=headers)
    assert expired(found, written, queue_ttl, written + age) is gone


ORIGIN: dict[str, Any] = {"reason": "rejected", "error": "nö", "topic": "t.queue.q", "partition": 3, "offset": 17}


@pytest.mark.parametrize("original", [None, [], GOOD, [("odd", None)]])
def test_a_dead_letter_keeps_its_headers_and_says_why_and_whence(original: RecordHeaders | None) -> None:
    assert dead_letter_headers(original, **ORIGIN) == [
        *(original or []),
        ("dead-reason", b"rejected"),
        ("dead-error", "nö".encode()),
        ("dead-topic", b"t.queue.q"),
        ("dead-partition", b"3"),
        ("dead-offset", b"17"),
    ]


def test_a_dead_letter_is_still_the_message() -> None:
    sent = message(body=b"\x00", headers={"id": "1"}, exchange="x")
    assert decode(dead_letter_headers(encode(sent), **ORIGIN), b"\x00") == sent


@pytest.mark.parametrize(
    ("said", "expected"), [(5.5, 5.5), (5, 5), (None, 9.0), ("2020-01-01", 9.0), (True, 9.0), ([], 9.0)]
)
def test_a_task_was_created_when_it_says_so_or_when_its_record_was_published(said: object, expected: float) -> None:
    assert created_at(said, {"timestamp": 9.0}) == expected
    assert created_at(None, {}) is None


def test_the_deep_record_is_deep_enough() -> None:
    assert DEEP.count(b"{") > sys.getrecursionlimit()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"id": "1", "task": "t"}, False),
        ({"id": "1", "ordering_key": "k"}, True),
        ({"id": "1", "deduplication_id": "d"}, True),
    ],
)
def test_what_must_stay_together_is_bound_to_a_partition(headers: dict[str, str], expected: bool) -> None:
    assert message(headers=headers).is_bound == expected


def test_a_bound_message_goes_where_it_went_before_partitions_were_added() -> None:
    headers = bind(encode(message()), 16)
    assert keys_over(headers) == 16
    assert partition_again(headers, b"k", 24) == partition_again(headers, "k", 16) == partition_of("k", 16)
    assert partition_again(headers, b"k", 8) is None  # its topic was made anew
    assert partition_again(headers, None, 24) is None


@pytest.mark.parametrize("found", [None, b"", b"0", b"-3", b"many", b"1.5"])
def test_what_does_not_say_so_goes_where_its_key_leads_it(found: bytes | None) -> None:
    assert partition_again([("keys-over", found)], b"k", 24) is None
    assert partition_again(None, b"k", 24) is None
