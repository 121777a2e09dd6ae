"""The node name is the static membership: a restart gets its partitions back at once, a second one of a name is noticed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.kafka.client.profiles import member
from kafka_exec.kafka.cluster.cluster import cluster
from kafka_exec.kafka.nodes.node import Node
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


def test_a_fenced_worker_gives_its_name_up_if_another_worker_has_it(made: Crew) -> None:
    first = made.start("first", "-c", "1", "-P", "threads")
    made.ready(first)
    namesake = Node(
        first.node,
        cluster({"bootstrap.servers": made.kafka.bootstrap_servers}, Settings()),
        nodes_topic(Topics(made.prefix)),
    )
    namesake.start()
    try:
        fence(made, first)
        first.wait_for_line(f"another worker named {first.node} is running")
        made.effects.wait_for(made.send("work", number=50))
        made.shared_out("celery", 1)
        assert static_ids(made) == [None]
    finally:
        namesake.stop()
