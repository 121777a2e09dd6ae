"""The queues that get a message: patterns beside a dumb matcher, and the partition that a listener must read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kafka_exec.core.message.routing import Binding, bound_queues, log_key, log_key_of_binding, matches
from tests.unit.twins.topic import takes, words

PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "#", "", "a*", "#b"]), max_size=6).map(".".join)
KEYS = st.lists(st.sampled_from(["a", "b", "", "ab", "*", "#", "a*"]), max_size=6).map(".".join)


@pytest.mark.parametrize(
    ("pattern", "taken", "not_taken"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "axb", ""]),
        ("*", ["a", "ab"], ["", "a.b"]),
        ("a.*", ["a.b"], ["a", "a.b.c"]),
        ("*.b", ["a.b"], ["b", "a.a.b"]),
        ("#", ["", "a", "a.b.c", "a\nb"], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["b", "ab", "ab.c"]),
        ("#.b", ["b", "a.b", "a.a.b"], ["ab", "a.ab", "b.a"]),
        ("a.#.b", ["a.b", "a.x.b", "a.x.y.b"], ["ab", "a", "b"]),
        ("#.#", ["", "a", "a.b"], []),
        ("#.#.a", ["a", "b.a", "b.b.a"], ["b", "ba"]),
        ("a.#.#.b", ["a.b", "a.x.b"], ["a", "b"]),
        ("#.*", ["a", "a.b"], [""]),
        ("*.#", ["a", "a.b"], [""]),
        ("#.x.#", ["x", "a.x", "x.a", "a.x.b"], ["ax", ""]),
        ("", [""], ["a"]),
        ("a+", ["a+"], ["a", "aa"]),
        ("(a|b)", ["(a|b)"], ["a"]),
        ("a*", ["a*"], ["ab"]),
        ("task.#", ["task.sent", "task.\n.x"], ["worker.online"]),
    ],
)
def test_topic_pattern(pattern: str, taken: list[str], not_taken: list[str]) -> None:
    assert [key for key in taken if not matches("topic", pattern, key)] == []
    assert [key for key in not_taken if matches("topic", pattern, key)] == []


@given(pattern=PATTERNS, key=KEYS)
@example(pattern="#.#.a", key="a")
@example(pattern="a.#.b", key="a..b")
@example(pattern="a.*.b", key="a..b")
def test_topic_patterns_agree_with_a_dumb_matcher(pattern: str, key: str) -> None:
    assert matches("topic", pattern, key) == takes(words(pattern), words(key))


@given(pattern=PATTERNS, key=KEYS)
def test_fanout_takes_all_and_direct_its_own(pattern: str, key: str) -> None:
    assert matches("fanout", pattern, key)
    assert matches("direct", pattern, key) == (pattern == key)


@given(kind=st.sampled_from(["direct", "topic", "fanout"]), pattern=PATTERNS, key=KEYS)
def test_a_binding_reads_where_its_messages_are_written(kind: str, pattern: str, key: str) -> None:
    where = log_key_of_binding(kind, pattern)
    if matches(kind, pattern, key):
        assert where in (None, log_key(kind, key))


@pytest.mark.parametrize(
    ("kind", "pattern", "where"),
    [
        ("direct", "reply-1", "reply-1"),
        ("direct", "a.b", "a"),
        ("direct", "*", "*"),
        ("direct", "", ""),
        ("topic", "task.#", "task"),
        ("topic", "task.*", "task"),
        ("topic", "*.failed", None),
        ("topic", "#", None),
        ("topic", "*x.y", "*x"),
        ("fanout", "any", ""),
    ],
)
def test_a_listener_reads_no_more_than_it_must(kind: str, pattern: str, where: str | None) -> None:
    assert log_key_of_binding(kind, pattern) == where


def test_each_bound_queue_gets_a_message_once() -> None:
    bindings = [
        Binding("b", "x", "a.*"),
        Binding("b", "x", "#"),
        Binding("a", "x", "a.b"),
        Binding("c", "other", "#"),
        Binding("d", "x", "b.#"),
    ]
    assert bound_queues(bindings, "x", "topic", "a.b") == ["a", "b"]
    assert bound_queues(bindings, "x", "direct", "a.b") == ["a"]
    assert bound_queues(bindings, "other", "fanout", "") == ["c"]
    assert bound_queues([], "x", "fanout", "") == []
