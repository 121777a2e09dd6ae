"""Waits of publishing: for a single message at once, for a scope's messages together, for each scope apart."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kafka_exec.core.cluster.settings import Settings
from kafka_exec.errors import AccessRefused, ChannelFailed, MessageTooLarge, NotConfirmed
from kafka_exec.kafka.publish.publisher import MOST_OUTSTANDING, Publisher
from kafka_exec.kafka.publish.scopes import confirmed

Report = Callable[[KafkaError | None, Any], None]


class Handle:
    """librdkafka's producer without a broker: reports are due when polled for, unless it is silent."""

    def __init__(self) -> None:
        self.produced: list[str] = []
        self.due: deque[tuple[str, Report]] = deque()
        self.polls = 0
        self.most_due = 0
        self.silent = False
        self.errors: dict[str, int] = {}
        self.refused_at_once: dict[str, Exception] = {}

    def produce(self, topic: str, value: bytes | None, key: Any = None, *, on_delivery: Report, **more: Any) -> None:
        if topic in self.refused_at_once:
            raise self.refused_at_once[topic]
        self.produced.append(topic)
        self.due.append((topic, on_delivery))
        self.most_due = max(self.most_due, len(self.due))

    def poll(self, timeout: float) -> int:
        self.polls += 1
        while self.due and not self.silent:
            topic, report = self.due.popleft()
            error = KafkaError(self.errors[topic]) if topic in self.errors else None
            report(error, SimpleNamespace(topic=lambda topic=topic: topic, offset=lambda: 0))
        return 0


class FakeCluster:
    """As much of a cluster as its publisher uses."""

    def __init__(self, publish_timeout: float = 15.0) -> None:
        self.settings = Settings(publish_timeout=publish_timeout)
        self.handle = Handle()
        self.signs_of_life = 0
        self.last_error = ""
        self.forgotten: list[str] = []
        self.topic_refused = self.forgotten.append
        self.publisher = Publisher(self)  # type: ignore[arg-type]

    def new_producer(self, properties: Any) -> Handle:
        assert properties["acks"] == "all"
        assert properties["enable.idempotence"]
        assert properties["max.in.flight.requests.per.connection"] == 1  # more lose messages: see the producer
        return self.handle

    def on_close(self, closer: Any) -> None:
        pass

    def check_size(self, *record: Any) -> None:
        pass

    def answered(self) -> None:
        self.signs_of_life += 1


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def test_a_single_message_is_confirmed_when_send_returns(cluster: FakeCluster) -> None:
    cluster.publisher.send("t", b"1")
    assert cluster.handle.produced == ["t"]
    assert not cluster.handle.due
    assert cluster.signs_of_life


def test_a_scopes_messages_are_confirmed_together_at_its_end(cluster: FakeCluster) -> None:
    with confirmed():
        for _ in range(50):
            cluster.publisher.send("t", b"1")
        assert (len(cluster.handle.due), cluster.handle.polls) == (50, 0)
    assert not cluster.handle.due
    cluster.publisher.send("t", b"after it each one waits again")
    assert not cluster.handle.due


def test_an_inner_scope_confirms_its_own_at_its_end(cluster: FakeCluster) -> None:
    with confirmed() as outer:
        cluster.publisher.send("outer", b"1")
        with confirmed() as inner:
            cluster.publisher.send("inner", b"1")
            assert (outer.outstanding, inner.outstanding) == (1, 1)
        assert inner.outstanding == 0
        cluster.publisher.send("outer", b"2")
        assert outer.outstanding >= 1
    assert outer.outstanding == 0


def test_an_error_of_the_block_goes_on_and_the_scope_ends(cluster: FakeCluster) -> None:
    def fail_after_sending() -> None:
        with confirmed():
            cluster.publisher.send("t", b"1")
            raise LookupError

    with pytest.raises(LookupError):
        fail_after_sending()
    assert cluster.handle.produced == ["t"]
    cluster.publisher.send("t", b"2")
    assert not cluster.handle.due


def test_a_message_may_be_confirmed_at_once_within_a_scope(cluster: FakeCluster) -> None:
    with confirmed() as scope:
        cluster.publisher.send("t", b"1", at_once=True)
        assert (scope.sent, len(cluster.handle.due)) == (0, 0)


def test_messages_for_another_cluster_do_not_wait_for_the_scopes_end(cluster: FakeCluster) -> None:
    other = FakeCluster()
    with confirmed() as scope:
        cluster.publisher.send("t", b"1")
        other.publisher.send("t", b"1")
        assert not other.handle.due
        assert scope.outstanding == 1
    assert not cluster.handle.due


def test_a_scope_waits_in_between_when_it_has_much_under_way(cluster: FakeCluster) -> None:
    with confirmed():
        for _ in range(3 * MOST_OUTSTANDING):
            cluster.publisher.send("t", b"1")
    assert len(cluster.handle.produced) == 3 * MOST_OUTSTANDING
    assert cluster.handle.most_due <= MOST_OUTSTANDING


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, MessageTooLarge),
        (KafkaError._MSG_TIMED_OUT, NotConfirmed),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, ChannelFailed),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, NotConfirmed),
    ],
)
def test_a_single_messages_error_says_who_must_act(cluster: FakeCluster, code: int, error: type[Exception]) -> None:
    cluster.handle.errors["t"] = code
    with pytest.raises(error, match="publishing to t"):
        cluster.publisher.send("t", b"1")
    assert cluster.forgotten == ["t"]  # what was known of the topic may be what was wrong


def test_what_a_scope_could_not_publish_is_counted(cluster: FakeCluster) -> None:
    cluster.handle.errors["bad"] = KafkaError.MSG_SIZE_TOO_LARGE

    def send_three() -> None:
        with confirmed():
            for topic in ("bad", "good", "bad"):
                cluster.publisher.send(topic, b"1")

    with pytest.raises(NotConfirmed, match="2 of 3 messages were not published; the first: publishing to bad"):
        send_three()


def test_what_librdkafka_refuses_at_once_is_raised_there_and_counts_for_nothing(cluster: FakeCluster) -> None:
    cluster.handle.refused_at_once["t"] = KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    with confirmed() as scope:
        with pytest.raises(MessageTooLarge):
            cluster.publisher.send("t", b"1")
        assert scope.outstanding == 0


def test_a_silent_broker_is_waited_for_no_longer_than_the_timeout() -> None:
    cluster = FakeCluster(publish_timeout=0.001)
    cluster.handle.silent = True
    with pytest.raises(NotConfirmed, match="no acknowledgement of the broker"):
        cluster.publisher.send("t", b"1")


def test_a_full_queue_is_waited_for_no_longer_than_the_timeout() -> None:
    cluster = FakeCluster(publish_timeout=0.001)
    cluster.handle.refused_at_once["t"] = BufferError()
    with pytest.raises(NotConfirmed, match="too many messages wait to be sent"):
        cluster.publisher.send("t", b"1")


def test_a_broadcast_waits_for_nobody(cluster: FakeCluster) -> None:
    cluster.handle.silent = True
    cluster.publisher.post("t", b"1")
    assert len(cluster.handle.due) == 1


def test_a_refused_publisher_is_not_told_to_connect_again() -> None:
    assert not issubclass(NotConfirmed, AccessRefused)
