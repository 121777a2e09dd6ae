"""Dead letters: what they say of themselves, and what is published when they are replayed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.message.dead import Letter, LetterAddress, Marked, Order, Origin, RawHeaders, is_mark, mark
from kafka_exec.core.message.envelope import REPEATED, Message, dead_letter_headers, encode
from kafka_exec.errors import NotReplayable

TOPIC = "celery.dead.celery"


def died(headers: RawHeaders, value: bytes | None = b"x", reason: str = "rejected", place: int = 7) -> Letter:
    """The letter of a record with these headers, which was the ``place``-th of its partition."""
    why = dead_letter_headers(headers, reason=reason, error="no", topic="celery.queue.a", partition=3, offset=place)
    return Letter(LetterAddress(3, place), 1.0, b"key", value, why)


def task(body: Any = ([1], {"a": 2}, {"chain": None}), **changes: Any) -> tuple[RawHeaders, bytes]:
    """Headers and value of a task's record."""
    headers = {"task": "add", "id": "42", "argsrepr": "(1,)", "kwargsrepr": "{'a': 2}", **changes.pop("headers", {})}
    value = json.dumps(body).encode()
    message = Message(value, "application/json", "utf-8", headers, {}, "", "a")._replace(**changes)
    return list(encode(message)), message.body


@pytest.mark.parametrize("text", ["", "3", "3:", ":3", "-1:2", "1:2:3", "a:b", "1: 2"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        LetterAddress.parse(text)


def test_an_address_is_its_text() -> None:
    assert LetterAddress.parse(str(LetterAddress(3, 17))) == LetterAddress(3, 17)


def test_a_letter_says_what_died_and_why() -> None:
    letter = died(*task())
    assert (letter.reason, letter.error, letter.task, letter.id) == ("rejected", "no", "add", "42")
    assert letter.origin == Origin("celery.queue.a", 3, 7)
    assert letter.obstacle is None
    assert letter.body == [[1], {"a": 2}, {"chain": None}]


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], None),
        ([], b"\xff"),
        ([("content-type", b"application/json"), ("headers", b"{broken")], b"hello"),
        ([("content-type", None), ("x", None)], b"[" * 100_000),
    ],
)
def test_a_foreign_letter_is_a_letter(headers: RawHeaders, value: bytes | None) -> None:
    letter = died(headers, value, "no-content-type")
    assert (letter.reason, letter.task, letter.id, letter.obstacle) == ("no-content-type", "", "", None)
    assert letter.headers_again(TOPIC)[:-1] == headers
    with pytest.raises(ValueError, match=r".*"):
        _ = letter.body


def test_a_letter_without_an_origin_or_a_message_cannot_be_replayed() -> None:
    assert Letter(LetterAddress(0, 0), 1.0, None, b"x").obstacle == "it does not say where it came from"
    lost = died([("task", b"add")], None, "lost-record")
    assert (lost.task, lost.id) == ("add", "key")
    assert "send the task again" in (lost.obstacle or "")


def test_each_replay_is_counted_and_nothing_is_left_of_the_deaths() -> None:
    headers, value = task()
    first = died(headers, value).headers_again(TOPIC)
    second = died(first, value, place=9).headers_again(TOPIC)
    assert [header for header in second if header[0] != "replayed-from"] == headers
    told = [json.loads(value or b"") for name, value in second if name == "replayed-from"]
    assert told == [{"topic": TOPIC, "partition": 3, "offset": 9, "count": 2}]


def test_a_replayed_task_has_no_retries_behind_it() -> None:
    once, value = task(headers={"retries": 3, "timelimit": [None, 2.5]})
    fresh, _ = task(headers={"retries": 0, "timelimit": [None, 2.5]})
    assert died(once, value).headers_again(TOPIC)[:-1] == fresh
    assert died(fresh, value).headers_again(TOPIC)[:-1] == fresh


def test_a_replayed_task_runs_although_its_first_copy_has_ended() -> None:
    copy, value = task(headers={REPEATED: 1700000000.0, "retries": 3})
    fresh, _ = task(headers={REPEATED: None, "retries": 0})
    assert died(copy, value).headers_again(TOPIC)[:-1] == fresh


def test_somebody_elses_provenance_counts_nothing() -> None:
    for value in (None, b"x", b"[]", b'{"count": "x"}'):
        assert died([("replayed-from", value)]).replays == 0


def test_arguments_are_replaced_and_nothing_else() -> None:
    letter = died(*task())
    changed = letter.with_arguments([5], None)
    assert changed.body == [[5], {"a": 2}, {"chain": None}]
    assert (changed.task, changed.id, changed.key, changed.origin) == ("add", "42", b"key", letter.origin)
    assert letter.with_arguments(None, {}).body == [[1], {}, {"chain": None}]
    assert letter.with_arguments(None, None) is letter
    different = [name for (name, old), (_, new) in zip(letter.headers, changed.headers, strict=True) if old != new]
    assert different == ["headers"]
    assert json.loads(dict(changed.headers)["headers"] or b"")["argsrepr"] == "(5,)"


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (died([], b"x"), "no content-type"),
        (died(*task(content_type="application/x-python-serialize")), "application/x-python-serialize"),
        (died(*task(headers={"compression": "application/x-gzip"})), "compressed"),
        (died(*task(body=[1, 2])), "protocol 2"),
        (died(*task(headers={"task": None})), "protocol 2"),
        (died(task()[0], b"[[1], {"), "protocol 2"),
    ],
)
def test_only_a_plain_json_task_gets_other_arguments(letter: Letter, why: str) -> None:
    with pytest.raises(NotReplayable, match=why):
        letter.with_arguments([5], None)


def test_an_order_means_letters_by_place_reason_and_task() -> None:
    letter = died(*task())
    for order, meant in (
        (Order(), True),
        (Order([letter.address], "rejected", "add"), True),
        (Order([LetterAddress(3, 8)]), False),
        (Order(reason="bad-headers"), False),
        (Order(task="sub"), False),
    ):
        assert order.matches(letter) is meant


@given(begin=st.integers(0, 2**40), length=st.integers(1, 300), data=st.data())
def test_marks_agree_with_a_plain_set(begin: int, length: int, data: st.DataObject) -> None:
    offsets = st.integers(max(0, begin - 3), begin + length + 3)
    marked, plain = Marked(begin, begin + length), set()
    for some in data.draw(st.lists(st.lists(offsets, max_size=20), max_size=5)):
        value, headers = mark(some)
        assert is_mark(headers)
        marked.take(value)
        plain.update(some)
    places = range(begin, begin + length)
    assert [offset for offset in places if offset in marked] == [offset for offset in places if offset in plain]


@pytest.mark.parametrize("value", [None, b"", b"x", b"\xff", b"3", b'["a"]', b"{}", b"null"])
def test_a_mark_that_nobody_understands_marks_nothing(value: bytes | None) -> None:
    marked = Marked(0, 10)
    marked.take(value)
    assert not any(offset in marked for offset in range(10))


def test_a_letter_is_no_mark() -> None:
    assert not is_mark(None)
    assert not is_mark(died(*task()).headers)
