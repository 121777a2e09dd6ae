"""The node name is the static membership: a restart gets its partitions back at once, a second one of a name is noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.core.nodes.heartbeat import Joining
from kafka_exec.kafka.client.profiles import member
from kafka_exec.kafka.cluster.cluster import cluster
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.queue.reader import GroupReader
from tests.integration.workers import Crew, Worker, crew, until

SESSION = 30  # seconds: what depends on its end would be seen


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, kafka_exec_session_timeout=SESSION) as found:
        yield found


def test_a_second_worker_of_a_name_is_told_and_both_work(made: Crew) -> None:
    first = made.start("first", "-n", "same@test", "-c", "1", "-P", "threads")
    made.ready(first)
    second = made.start("second", "-n", "same@test", "-c", "1", "-P", "threads")
    second.wait_for_line("another worker named same@test is running")
    made.ready(second)

    gate = made.gate()
    held = made.send("hold", str(gate), number=16)
    gate.touch()
    quick = made.send("work", number=200)
    made.effects.wait_for([*held, *quick])
    made.effects.assert_once([*held, *quick])
    assert {effect.worker for effect in made.effects.all("end")} == {"first", "second"}
    assert first.process.poll() is None
    assert "static membership" not in first.output


def test_a_worker_killed_and_started_again_has_its_partitions_at_once(made: Crew) -> None:
    made.ready(made.start("phoenix", "-c", "1", "-P", "threads"))
    made.effects.wait_for(made.send("work", number=20))
    made.workers[0].kill()
    begun = time.monotonic()
    again = made.start("phoenix", "-c", "1", "-P", "threads")
    made.effects.wait_for(made.send("work", number=100))
    assert time.monotonic() - begun < SESSION / 2
    assert "another worker" not in again.output


def fence(made: Crew, worker: Worker) -> None:
    """Has Kafka fence a worker's static membership: a consumer that is no worker joins with the same id for a moment."""
    group, settings = f"{made.prefix}.queue.celery", Settings(session_timeout=6.0)
    consumer = Consumer({**member(settings, group, worker.node), "bootstrap.servers": made.kafka.bootstrap_servers})
    assigned: list[object] = []
    consumer.subscribe([group], on_assign=lambda _, partitions: assigned.append(partitions))

    def joins() -> bool:
        consumer.poll(0.1)
        return bool(assigned)

    until(joins, what="the consumer's membership")
    worker.wait_for_line("Kafka has ended its membership")
    consumer.close()


def static_ids(made: Crew) -> list[str | None]:
    """The static ids of the queue's members."""
    group = f"{made.prefix}.queue.celery"
    admin = made.kafka.admin()
    found = admin.describe_consumer_groups([group])[group].result(10)
    return [each.group_instance_id for each in found.members]


def test_a_fenced_worker_joins_again_by_its_name_if_no_other_worker_has_it(made: Crew) -> None:
    only = made.start("only", "-c", "1", "-P", "threads")
    made.ready(only)
    fence(made, only)
    made.effects.wait_for(tasks := made.send("work", number=50))
    made.effects.assert_once(tasks)
    made.shared_out("celery", 1)
    assert static_ids(made) == [only.node]
    assert "another worker" not in only.output


def node_of(made: Crew, worker: Worker) -> Node:
    """Another node under a worker's name."""
    found = cluster({"bootstrap.servers": made.kafka.bootstrap_servers}, Settings())
    return Node(worker.node, found, nodes_topic(Topics(made.prefix)))


def test_a_fenced_worker_gives_its_name_up_if_another_worker_has_it(made: Crew) -> None:
    first = made.start("first", "-c", "1", "-P", "threads")
    made.ready(first)
    namesake = node_of(made, first)
    namesake.start()
    try:
        fence(made, first)
        first.wait_for_line(f"another worker named {first.node} is running")
        made.effects.wait_for(made.send("work", number=50))
        made.shared_out("celery", 1)
        assert static_ids(made) == [None]
    finally:
        namesake.stop()


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_worker_knows_that_kafka_may_count_its_killed_predecessor_as_the_member(made: Crew, is_killed: bool) -> None:
    former = made.start("former", "-c", "1", "-P", "threads")
    made.ready(former)
    former.kill() if is_killed else former.stop()
    successor = node_of(made, former)
    successor.start()
    try:
        assert successor.joining() == Joining(former.node, is_return=is_killed)
    finally:
        successor.stop()


class Hanging(threading.Thread):
    """A static member that stops for ever in the middle of a rebalance: when it is to let partitions go."""

    def __init__(self, kafka: EmbeddedKafka, topic: str, name: str) -> None:
        super().__init__(daemon=True)
        properties = member(Settings(session_timeout=SESSION), topic, name)
        self._consumer = Consumer({**properties, "bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
        self._consumer.subscribe([topic], on_assign=self._take, on_revoke=self._hang)
        self._ends = threading.Event()
        self.has_all = threading.Event()
        self.hangs = threading.Event()
        self.start()

    def _take(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        self.has_all.set()

    def _hang(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.hangs.set()
        self._ends.wait()

    def run(self) -> None:
        while not self._ends.is_set():
            self._consumer.poll(0.1)
        self._consumer.close()

    def end(self) -> None:
        self._ends.set()
        self.join()


def test_no_partition_stays_without_an_owner_when_a_member_dies_within_a_rebalance_and_comes_back(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    topic = f"{prefix}.queue"
    admin = kafka.admin()
    admin.create_topics([NewTopic(topic, 8, 1)])[topic].result(10)
    here = cluster({"bootstrap.servers": kafka.bootstrap_servers}, Settings(session_timeout=SESSION))
    hanging = Hanging(kafka, topic, "one")
    assert hanging.has_all.wait(SESSION)
    readers = [GroupReader(here, topic, wake=lambda: None)]
    try:
        assert hanging.hangs.wait(SESSION)
        until(lambda: readers[0].assigned, what="the newcomer's assignment, which is empty")
        assert not readers[0].works()
        readers.append(GroupReader(here, topic, wake=lambda: None, joining=lambda _: Joining("one", is_return=True)))
        until(lambda: sum(len(reader.works()) for reader in readers) == 8, what="an owner for each partition")
    finally:
        for reader in readers:
            reader.stop()
        assert all(reader.join(10) for reader in readers)
        hanging.end()
