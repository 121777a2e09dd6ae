"""Topic names: legal, reversible, and never shared."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kafka_exec.core.cluster.names import LONGEST, TEMPLATES, Topics, escape, unescape
from kafka_exec.errors import ConfigurationError, InvalidName

ANY_TEXT = st.text(st.characters(), max_size=40)  # lone surrogates too
TRICKY = st.text("_x5f2e.p1é/", max_size=12)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("celery", "celery"),
        ("a.b-c_d", "a.b-c_d"),
        ("", ""),
        ("é", "_xc3_xa9"),
        ("a b", "a_x20b"),
        ("a\nb", "a_x0ab"),
        ("_x20", "_x5fx20"),
        ("_xyz", "_xyz"),
        ("_X20", "_X20"),
        ("q.p1", "q_x2ep1"),
        ("q.p10", "q_x2ep10"),
        ("q.p1x", "q.p1x"),
        ("q.p", "q.p"),
        ("q.p1\n", "q.p1_x0a"),
        (".p1.p2", ".p1_x2ep2"),
        ("\ud800", "_xed_xa0_x80"),
    ],
)
def test_escape(name: str, escaped: str) -> None:
    assert escape(name) == escaped
    assert unescape(escaped) == name


@given(ANY_TEXT | TRICKY)
def test_any_name_becomes_legal_and_comes_back(name: str) -> None:
    escaped = escape(name)
    assert re.fullmatch(r"[a-zA-Z0-9._-]*", escaped)
    assert unescape(escaped) == name


@given(names=st.lists(st.tuples(TRICKY, st.integers(0, 3)), min_size=2, max_size=2, unique=True))
@example(names=[("a", 1), ("a.p1", 0)])
@example(names=[("a", 1), ("a_x2ep1", 0)])
@example(names=[("a.p1", 1), ("a", 1)])
def test_two_queues_and_their_steps_never_share_a_topic(names: list[tuple[str, int]]) -> None:
    topics = Topics("celery")
    (one, first), (other, second) = names
    assert topics.queue(one, first) != topics.queue(other, second)
    if one != other:
        assert topics.dead(one) != topics.dead(other)


@given(st.lists(TRICKY, min_size=2, max_size=2))
def test_two_kinds_never_share_a_topic(names: list[str]) -> None:
    topics = Topics("celery")
    one, other = names
    made = [topics.queue(one), topics.exchange(other), topics.dead(one), topics.bindings, topics.nodes]
    made += [topics.state, topics.control, topics.control_state]
    assert len(set(made)) == len(made)


def test_the_default_exchange_has_a_name() -> None:
    assert Topics("celery").exchange("") == "celery.exchange.amq.default"


@pytest.mark.parametrize("kind", ["queue", "exchange", "dead"])
def test_a_name_is_as_long_as_kafka_allows(kind: str) -> None:
    make = getattr(Topics("celery"), kind)
    room = LONGEST - len(f"celery.{kind}.")
    assert len(make("n" * room)) == LONGEST
    with pytest.raises(InvalidName, match=f"{kind} 'n+' makes a topic name of 250 characters, Kafka allows 249"):
        make("n" * (room + 1))
    with pytest.raises(InvalidName):
        make("é" * (room // 8 + 1))


@pytest.mark.parametrize("step", [1, 3])
def test_a_priority_step_counts_towards_the_length(step: int) -> None:
    topics = Topics("celery")
    room = LONGEST - len("celery.queue..p1")
    assert len(topics.queue("n" * room, step)) == LONGEST
    assert topics.queue("n" * (room + 1))
    with pytest.raises(InvalidName, match="Kafka allows 249"):
        topics.queue("n" * (room + 1), step)


def test_templates_are_replaced_one_by_one() -> None:
    topics = Topics("shop", {"queue": "jobs-{name}", "nodes": "{prefix}-alive", "delay": "later"})
    assert topics.queue("mail", 2) == "jobs-mail.p2"
    assert (topics.nodes, topics.delay) == ("shop-alive", "later")
    assert topics.dead("mail") == "shop.dead.mail"


def test_the_prefix_is_escaped() -> None:
    assert Topics("my shop").bindings == "my_x20shop.bindings"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"que": "q.{name}"}, "unknown kind 'que', choose from queue, journal, exchange"),
        ({"queue": "{prefix}.q"}, "the template of 'queue' needs {name}"),
        ({"dead": ""}, "the template of 'dead' needs {name}"),
        ({"nodes": ""}, "the template of 'nodes' makes no topic name"),
        ({"nodes": "{region}.nodes"}, "the template of 'nodes' makes no topic name: '{region}.nodes'"),
        ({"nodes": "{}.nodes"}, "the template of 'nodes' makes no topic name"),
        ({"nodes": "{prefix.x}.nodes"}, "the template of 'nodes' makes no topic name"),
        ({"nodes": "{prefix"}, "the template of 'nodes' makes no topic name"),
        ({"queue": "my {name}"}, "the template of 'queue' makes no topic name: 'my {name}'"),
        ({"queue": 5}, "the template of 'queue' must be a text, not 5"),
        ({"dead": TEMPLATES["queue"]}, "two kinds have the same template: '{prefix}.queue.{name}'"),
        ({"queue": "{name}", "dead": "{name}"}, "two kinds have the same template: '{name}'"),
    ],
)
def test_a_wrong_template_is_refused(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"topics: {message}")):
        Topics("celery", overrides)


@given(ANY_TEXT | TRICKY)
@example("")
def test_the_queue_of_dead_letters_is_found_by_their_topic(name: str) -> None:
    for topics in (Topics("celery"), Topics("a b"), Topics("celery", {"dead": "acme.{name}.dead.of.{prefix}"})):
        with suppress(InvalidName):  # too long
            assert topics.queue_of_dead(topics.dead(name)) == name


@given(ANY_TEXT | TRICKY, st.integers(0, 9))
@example("", 0)
@example("a.p1", 0)
def test_a_queue_and_its_step_are_found_by_their_topic(name: str, step: int) -> None:
    for topics in (Topics("celery"), Topics("a b"), Topics("celery", {"queue": "acme.{name}.of.{prefix}"})):
        with suppress(InvalidName):  # too long
            assert topics.queue_of(topics.queue(name, step)) == (name, step)


@pytest.mark.parametrize("topic", ["celery.dead.a", "celery.queue", "other.queue.a", "celery.queue._xff", "", "a\n.p1"])
def test_other_topics_are_of_no_queue(topic: str) -> None:
    assert Topics("celery").queue_of(topic) is None


@pytest.mark.parametrize(
    "topic", ["celery.queue.a", "celery.dead", "other.dead.a", "celery.dead._xff", "celery.dead.é"]
)
def test_other_topics_hold_no_dead_letters(topic: str) -> None:
    assert Topics("celery").queue_of_dead(topic) is None
