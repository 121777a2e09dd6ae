"""The log of claims as a starting node reads it: from its newest checkpoint on, however long it is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.beat.claimlog import ClaimLog, RecordKind, Signal
from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import TopicSpec, sync_topic
from kafka_exec.kafka.beat.synclog import SyncLog, present
from kafka_exec.kafka.client.properties import client_properties
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.publish.scopes import confirmed

#: Records before the checkpoint, ten thousand or a multiple. A start is as quick after ten million.
RECORDS = int(os.environ.get("SYNC_RECORDS", "20000"))


@pytest.fixture
def cluster(kafka: EmbeddedKafka) -> Iterator[Cluster]:
    settings = Settings()
    made = Cluster(client_properties(servers=kafka.bootstrap_servers, settings=settings), settings)
    yield made
    made.close(5.0)


@pytest.fixture
def spec(cluster: Cluster, prefix: str) -> TopicSpec:
    found = sync_topic(Topics(prefix))
    cluster.topics.ensure(found)
    return found


class Writer:
    """Writes signals, and folds them as a reader would."""

    def __init__(self, cluster: Cluster, spec: TopicSpec) -> None:
        self._cluster = cluster
        self._spec = spec
        self.log = ClaimLog()

    def write(self, *signals: Signal) -> None:
        with confirmed():
            for signal in signals:
                self._cluster.publisher.send(self._spec.name, signal.encode(), partition=0)
                self.log.take(signal, self.log.next, 0.0)

    def claim(self, entry: str) -> None:
        self.write(Signal(RecordKind.CLAIMING, "a", "node", entry, self.log.standing(entry).reference))

    def fire(self, entry: str, slots: range) -> None:
        epoch = self.log.standing(entry).epoch
        self.write(*(Signal(RecordKind.HANDLING, "a", "node", entry, epoch, slot=float(slot)) for slot in slots))


def facts(log: ClaimLog) -> dict[str, tuple[object, ...]]:
    return {entry: (s.holder, s.epoch, s.slot, s.runs) for entry, s in log.all().items()}


def test_a_start_reads_from_the_newest_checkpoint_on(cluster: Cluster, spec: TopicSpec) -> None:
    writer = Writer(cluster, spec)
    for entry in ("x", "y"):
        writer.claim(entry)
    for first in range(0, RECORDS, 10_000):
        writer.fire("x", range(first, first + 10_000))
    checkpoint = writer.log.checkpoint("a")
    writer.fire("y", range(50))  # committed before the checkpoint, and not in it
    writer.write(*checkpoint)
    writer.fire("x", range(RECORDS, RECORDS + 100))
    began = time.monotonic()
    log = SyncLog(cluster, spec)
    print(f"{RECORDS} records before the checkpoint: a start takes {time.monotonic() - began:.2f} s")
    assert log.state.next == RECORDS + 2
    log.close()
    assert facts(present(cluster, spec)) == facts(writer.log)


def test_a_checkpoint_is_found_behind_many_records(cluster: Cluster, spec: TopicSpec) -> None:
    writer = Writer(cluster, spec)
    writer.claim("x")
    writer.write(*writer.log.checkpoint("a"))
    writer.fire("x", range(9000))
    log = SyncLog(cluster, spec)
    assert log.state.next == 1
    log.close()
    assert facts(present(cluster, spec)) == facts(writer.log)


def test_what_checkpoints_made_needless_is_deleted_and_nothing_is_lost(cluster: Cluster, spec: TopicSpec) -> None:
    writer = Writer(cluster, spec)
    writer.claim("x")
    for first in (0, 100, 200):
        writer.fire("x", range(first, first + 100))
        writer.write(*writer.log.checkpoint("a"))
    log = SyncLog(cluster, spec)
    deadline = time.monotonic() + 60
    log.trim()
    while cluster.log.begin(spec.name, 0, since=0) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    log.close()
    assert facts(present(cluster, spec)) == facts(writer.log)
    assert present(cluster, spec).whole


def test_without_beginning_and_checkpoint_holders_are_believed(cluster: Cluster, spec: TopicSpec) -> None:
    writer = Writer(cluster, spec)
    writer.claim("x")
    writer.fire("x", range(10))
    cluster.topics.truncate(spec.name, {0: 5})
    found = present(cluster, spec)
    assert not found.whole
    assert (found.standing("x").holder, found.standing("x").slot) == ("a", 9.0)
