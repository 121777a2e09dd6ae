"""The logs of a queue on a real broker: what is told is restored, however large; what was deleted is known at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import TopicSpec, journal_topic, queue_topic
from kafka_exec.core.queue.checkpoints import encode_checkpoint
from kafka_exec.core.queue.lanes import Lane
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import STARTED, Transition, parked
from kafka_exec.kafka.client.properties import client_properties
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import TIMEOUT, Fetcher
from kafka_exec.kafka.publish.scopes import confirmed
from kafka_exec.kafka.queue.journal import Journal

#: Of the longest key that a task may have, in letters of three bytes.
LANES = [Lane("key", f"{number:04}" + "\u20ac" * 508) for number in range(1000)]


@pytest.fixture
def cluster(kafka: EmbeddedKafka) -> Iterator[Cluster]:
    settings = Settings()
    made = Cluster(client_properties(servers=kafka.bootstrap_servers, settings=settings), settings)
    yield made
    made.close(5.0)


def journal(cluster: Cluster, prefix: str, incarnation: str) -> Journal:
    topics = Topics(prefix, cluster.settings.topics)
    queue = queue_topic(cluster.settings, topics, "q", 0, 1)
    spec: TopicSpec = journal_topic(topics, "q", 0, 1)
    cluster.topics.ensure(queue, spec)
    node: Any = SimpleNamespace(incarnation=incarnation, period=1.0)
    made = Journal(cluster, queue.name, spec, node)
    made.identity = cluster.topics.identity(queue.name)
    return made


def restored(cluster: Cluster, prefix: str, committed: Progress | None) -> Ledger:
    reader = journal(cluster, prefix, "next")
    try:
        return reader.restore({0: committed})[0]
    finally:
        reader.leave([0])


def test_a_record_that_was_deleted_is_known_to_be_gone_at_once(cluster: Cluster, prefix: str) -> None:
    topic = f"{prefix}.queue.q"
    journal(cluster, prefix, "owner")
    with confirmed():
        for number in range(3):
            cluster.publisher.send(topic, b"%d" % number, partition=0)
    fetcher = Fetcher(cluster, topic)
    found = fetcher.fetch(0, 1)
    assert found is not None
    assert found.value() == b"1"
    cluster.topics.purge([topic])
    began = time.monotonic()
    assert [fetcher.fetch(0, offset) for offset in range(3)] == [None] * 3
    assert time.monotonic() - began < TIMEOUT / 2, "it does not wait for a record that cannot come"
    fetcher.close(1.0)


def test_a_batch_of_transitions_that_is_larger_than_a_message_is_parted_and_nothing_of_it_is_given_up(
    cluster: Cluster, prefix: str
) -> None:
    writer = journal(cluster, prefix, "owner").writer
    stream = writer.stream(0, cluster.topics.identity(f"{prefix}.queue.q"))
    writer._is_served = True  # transitions wait for the thread that serves
    for offset, lane in enumerate(LANES):
        number = stream.tell(parked(lane, [offset]))
    assert not stream.is_durable(number)
    assert writer.flush([0], 10.0)
    assert stream.is_durable(number)
    found = restored(cluster, prefix, Progress(0))
    assert found.parked == dict(enumerate(LANES))


def test_a_checkpoint_that_is_larger_than_a_message_is_several_and_the_next_owner_knows_all(
    cluster: Cluster, prefix: str
) -> None:
    written = journal(cluster, prefix, "owner")
    stream = written.writer.stream(0, written.identity)
    ledger = Ledger(written.identity, Progress(0))
    for offset, lane in enumerate(LANES):
        ledger.park(lane, [offset])
    for offset in range(2000, 4000):
        ledger.start(offset, "owner")
    stream.tell(Transition(STARTED, 0, 1))
    stream.checkpoint(encode_checkpoint(ledger, "owner"), lambda offset: ledger.progress.check_in(offset, offset))
    assert written.writer.flush([0], 10.0)
    offset, metadata = ledger.commit()
    found = restored(cluster, prefix, Progress.restore(offset, metadata, written.identity))
    assert found.parked == ledger.parked
    assert found.leases == ledger.leases
