"""Each item that a consumer hands out is looked at: a record, the end of a partition, or an error that means something."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kafka_exec.errors import ChannelFailed, ConnectionFailed, Forbidden, KafkaExecError
from kafka_exec.kafka.client import profiles
from kafka_exec.kafka.client.log_reading import get_to_know, is_end, is_record, poll_batch, position_after, trouble_of


def item(code: int | None = None, offset: int = 7) -> Any:
    error = None if code is None else KafkaError(code)
    return SimpleNamespace(error=lambda: error, offset=lambda: offset)


@pytest.mark.parametrize(
    ("code", "matters", "raised", "position"),
    [
        (None, False, None, 8),
        (KafkaError._PARTITION_EOF, False, None, 7),
        (KafkaError._TRANSPORT, False, None, 0),
        (KafkaError.LEADER_NOT_AVAILABLE, False, None, 0),
        # Who joins no group may be forbidden to.
        (KafkaError.GROUP_AUTHORIZATION_FAILED, False, None, 0),
        # Whether a topic that is not known matters, depends on who reads it.
        (KafkaError.UNKNOWN_TOPIC_OR_PART, True, None, 0),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, True, Forbidden, 0),
        (KafkaError._AUTO_OFFSET_RESET, True, ChannelFailed, 0),
        (KafkaError._FATAL, True, ConnectionFailed, 0),
    ],
)
def test_what_an_item_means(
    code: int | None, matters: bool, raised: type[KafkaExecError] | None, position: int
) -> None:
    found = item(code)
    assert (trouble_of(found) is not None) == matters
    assert position_after(found) == position
    assert is_end(found) == (code == KafkaError._PARTITION_EOF)
    if raised is None:
        assert is_record(found, "topic") == (code is None)
    else:
        with pytest.raises(raised, match="reading topic"):
            is_record(found, "topic")


class Scripted:
    """A consumer that has this to hand out."""

    def __init__(self, *items: Any) -> None:
        self._items = list(items)

    def poll(self, timeout: float) -> Any:
        return self._items.pop(0) if self._items else None

    def consume(self, number: int, timeout: float) -> list[Any]:
        assert timeout == 0
        taken, self._items = self._items[:number], self._items[number:]
        return taken


def test_a_batch_is_what_is_there_and_no_more_than_was_asked_for() -> None:
    consumer: Any = Scripted(*range(5))
    assert [poll_batch(consumer, 0.1, 3), poll_batch(consumer, 0.1, 3), poll_batch(consumer, 0.1, 3)] == [
        [0, 1, 2],
        [3, 4],
        [],
    ]


class Answering:
    """A consumer that knows of a topic what it is told one after the other."""

    def __init__(self, *errors: int | None) -> None:
        self.errors = list(errors)

    def list_topics(self, topic: str, timeout: float) -> Any:
        code = self.errors.pop(0)
        if code == KafkaError._TIMED_OUT:
            raise KafkaException(KafkaError(code))
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None if code is None else KafkaError(code))})


def test_a_topic_is_asked_for_until_the_answer_is_about_it() -> None:
    consumer: Any = Answering(KafkaError._TIMED_OUT, KafkaError.LEADER_NOT_AVAILABLE, None)
    get_to_know(consumer, "topic", 10.0)
    assert consumer.errors == []
    # One that is missing, or forbidden, is for who reads it.
    for code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
        get_to_know(Answering(code), "topic", 10.0)  # type: ignore[arg-type]
    with pytest.raises(ConnectionFailed, match="looking for topic topic"):
        get_to_know(Answering(*[KafkaError.LEADER_NOT_AVAILABLE] * 3), "topic", 0.0)  # type: ignore[arg-type]


def test_only_a_member_has_a_group_of_its_own() -> None:
    for profile in (profiles.LOG, profiles.FOLLOWING, profiles.TO_AN_END, profiles.DRIVING, profiles.SINGLE):
        assert profile["group.id"] == "kafka_exec"
    assert profiles.SINGLE["isolation.level"] == "read_uncommitted"
    settings: Any = SimpleNamespace(group_protocol="classic", session_timeout=2.4)
    static = profiles.member(settings, "queue", "w1")
    assert (static["group.id"], static["group.instance.id"], static["heartbeat.interval.ms"]) == ("queue", "w1", 800)
    assert "group.instance.id" not in profiles.member(settings, "queue", None)
    newer: Any = SimpleNamespace(group_protocol="consumer", session_timeout=2.4)
    assert not profiles.member(newer, "queue", "w1").keys() & {"group.instance.id", "session.timeout.ms"}
