"""Copies of tasks: the same work, which leads nowhere back, and one id for each original and replay."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kafka_exec.core.message.copies import REPLAY_OF, Replay, is_first
from kafka_exec.core.message.envelope import Message, decode, encode
from kafka_exec.core.overview.choosing.messages import MessageFilter, expression
from kafka_exec.errors import ConfigurationError, NotReplayable

REPLAY = Replay("replay", "shadow")

#: Headers that stay in a copy.
KEPT = {"task": "shop.pay", "ordering_key": "c7", "timelimit": [None, 5], "slot": 3.0, "task_version": 2, "x-own": "y"}

#: Headers by which a task belongs to others, or to a time that is over.
LEFT_OUT = {
    "parent_id": "p",
    "group": "g",
    "group_index": 3,
    "eta": "2026-01-01T00:00:00+00:00",
    "expires": "2026-01-02T00:00:00+00:00",
    "deduplication_id": "invoice-9",
    "kafka_created": 1.0,
    "kafka_repeated": 1.0,
    "kafka_waited_for": "c",
}


def sent(body: Any = ([1], {"a": 2}, {}), **changes: Any) -> Message:
    """The message of a task."""
    headers = {"id": "one", "root_id": "r", **KEPT, **LEFT_OUT, **changes.pop("headers", {})}
    properties = {"reply_to": "me", "correlation_id": "one", "priority": 3, "delivery_info": {"exchange": "e"}}
    message = Message(json.dumps(body).encode(), "application/json", "utf-8", headers, properties, "e", "mail")
    return message._replace(**changes)


def test_a_copy_has_the_work_of_its_original_and_nothing_that_leads_back() -> None:
    copy = REPLAY.copy(sent(), "t/0/7")
    own = REPLAY.id_of("one")
    told = {"id": "one", "from": "t/0/7", "replay": "replay"}
    assert copy.headers == {**KEPT, "id": own, "root_id": own, REPLAY_OF: told}
    assert copy.properties == {
        "correlation_id": own,
        "priority": 3,
        "delivery_info": {"exchange": "", "routing_key": "shadow"},
    }
    assert (copy.exchange, copy.routing_key, copy.body) == ("", "shadow", sent().body)
    assert decode(encode(copy), copy.body) == copy


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_what_follows_the_end_of_the_original_does_not_follow_that_of_the_copy(name: str) -> None:
    follows = {"task": "next"} if name == "chord" else [{"task": "next"}]
    args, kwargs, embed = json.loads(REPLAY.copy(sent(([1], {}, {name: follows, "own": 1})), "t/0/0").body)
    assert (args, kwargs) == ([1], {})
    assert embed == {"callbacks": None, "errbacks": None, "chain": None, "chord": None, "own": 1}


def test_the_id_follows_from_the_original_the_queue_and_the_name() -> None:
    ids = {Replay(name, queue).id_of(task) for name in ("a", "b") for queue in ("c", "d") for task in ("1", "2")}
    assert len(ids) == 8
    assert Replay("a", "c").id_of("1") == "8ce2c4c8-15c1-51b6-b03c-1f1db4d12a60"


def test_a_replay_knows_its_own_copies_and_no_others() -> None:
    copy = REPLAY.copy(sent(), "t/0/7")
    assert REPLAY.has_sent(copy)
    assert not REPLAY.has_sent(sent())
    assert not Replay("other", "shadow").has_sent(copy)
    assert not Replay("replay", "other").has_sent(copy)


@pytest.mark.parametrize(
    "value", [None, 7, "replay", [], {}, {"replay": "replay"}, {"replay": "replay", "id": "\ud800"}]
)
def test_a_foreign_header_is_no_copy(value: Any) -> None:
    assert not REPLAY.has_sent(sent(headers={REPLAY_OF: value}))


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (sent(content_type="application/x-python-serialize"), "its body is application/x-python-serialize"),
        (sent(headers={"compression": "application/x-gzip"}), "its body is compressed"),
        (sent({"task": "old", "id": "x"}), "its body is no task"),
        (sent([[], {}, 7]), "its body is no task"),
        (sent()._replace(body=b"\xff"), "its body is no task"),
        (sent(headers={"id": None}), "it is no task"),
        (sent(headers={"task": ""}), "it is no task"),
    ],
)
def test_what_cannot_be_copied_is_refused(message: Message, error: str) -> None:
    with pytest.raises(NotReplayable, match=error):
        REPLAY.copy(message, "t/0/0")


def test_only_the_first_message_of_a_task_is_copied() -> None:
    assert is_first([("ordering-key", b"c7")], sent())
    assert not is_first([], sent(headers={"retries": 1}))
    assert not is_first([], sent(headers={"kafka_continuations": 1}))
    assert not is_first([("replayed-from", b"{}")], sent())


@pytest.mark.parametrize(
    ("chosen", "fits"),
    [
        (MessageFilter(), True),
        (MessageFilter(name="shop.*", key="c?"), True),
        (MessageFilter(name="mail.*"), False),
        (MessageFilter(key="d*"), False),
        (MessageFilter(where=expression('args[0] == 1 and kwargs.a > 1 and root == "r" and created < 2')), True),
        (MessageFilter(where=expression("version == 2 and args[0] == 2")), False),
    ],
)
def test_messages_are_chosen_by_what_they_tell(chosen: MessageFilter, fits: bool) -> None:
    assert chosen.matches(sent()) is fits


def test_arguments_that_cannot_be_read_equal_nothing() -> None:
    one = MessageFilter(where=expression("args[0] == 1"))
    assert one.matches(sent())
    assert not one.matches(sent(headers={"compression": "application/x-gzip"}))
    assert not one.matches(sent(content_type="application/x-python-serialize"))
    assert not one.matches(sent()._replace(body=b"7"))


def test_an_expression_names_parts_of_messages_only() -> None:
    with pytest.raises(ConfigurationError, match="result"):
        expression("result == 1")
