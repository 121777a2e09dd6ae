"""A producer that has failed for good: another one takes its place, and no message is left without an answer."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kafka_exec.errors import NotConfirmed
from kafka_exec.kafka.publish.scopes import confirmed
from tests.unit.test_producer_scope import FakeCluster, Handle

CAUSE = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "what it was", True)


class BreakingHandle(Handle):
    """Takes messages until it is broken; then it says so to who publishes, and once to who polls."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.untold = True

    def __len__(self) -> int:
        return len(self.due)

    def produce(self, *args: Any, **options: Any) -> None:
        if self.broken:
            raise KafkaException(KafkaError(KafkaError._FATAL))
        super().produce(*args, **options)

    def poll(self, timeout: float) -> int:
        if self.broken and self.untold:
            self.untold = False
            raise KafkaException(CAUSE)
        return super().poll(timeout)

    def purge(self) -> None:
        self.errors = {topic: KafkaError._PURGE_INFLIGHT for topic, _ in self.due}


class ReplacingCluster(FakeCluster):
    """Notes its producers."""

    def __init__(self) -> None:
        self.handles: list[BreakingHandle] = []
        self.let_go: list[Any] = []
        super().__init__()

    def new_producer(self, properties: Any) -> Handle:
        self.handles.append(BreakingHandle())
        return self.handles[-1]

    def forget(self, handle: Any) -> None:
        self.let_go.append(handle)


@pytest.fixture
def cluster() -> ReplacingCluster:
    return ReplacingCluster()


def test_what_a_broken_producer_does_not_take_the_next_one_publishes(cluster: ReplacingCluster) -> None:
    cluster.handles[0].broken = True
    cluster.publisher.send("t", b"1")
    assert [handle.produced for handle in cluster.handles] == [[], ["t"]]
    assert cluster.let_go == [cluster.handles[0]]


def test_who_enqueues_polls_nothing(cluster: ReplacingCluster) -> None:
    reports: list[Any] = []
    cluster.publisher.enqueue("t", b"1", 0, lambda error, record: reports.append(error))
    cluster.handles[0].broken = True
    cluster.publisher.enqueue("t", b"2", 0, lambda error, record: reports.append(error))
    assert (reports, [handle.polls for handle in cluster.handles]) == ([], [0, 0])
    for _ in range(2):
        cluster.publisher.serve()
    assert sorted(map(str, reports)) == sorted(map(str, [None, KafkaError(KafkaError._PURGE_INFLIGHT)]))


def test_of_what_was_under_way_the_cause_is_told(cluster: ReplacingCluster) -> None:
    def send_two() -> None:
        with confirmed():
            cluster.publisher.send("t", b"1")
            cluster.handles[0].broken = True
            cluster.publisher.send("u", b"2")

    with pytest.raises(
        NotConfirmed, match="1 of 2 messages were not published; the first: publishing to t: what it was"
    ):
        send_two()
    assert cluster.handles[1].produced == ["u"]


def test_who_polls_is_not_blamed_for_the_messages_of_others(cluster: ReplacingCluster) -> None:
    cluster.handles[0].broken = True
    cluster.publisher.serve()
    cluster.publisher.send("t", b"1")
    assert cluster.handles[1].produced == ["t"]


def test_a_producer_that_is_broken_from_the_start_is_replaced_once(cluster: ReplacingCluster) -> None:
    cluster.handles[0].broken = True
    made = cluster.new_producer

    def new_broken(properties: Any) -> Handle:
        made(properties)
        cluster.handles[-1].broken = True
        return cluster.handles[-1]

    cluster.new_producer = new_broken  # type: ignore[method-assign]
    with pytest.raises(NotConfirmed):
        cluster.publisher.send("t", b"1")
    assert len(cluster.handles) == 3
