"""Movers of delayed messages without a worker: here, in a process of its own, and one that is killed in the middle."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.kafka.cluster.cluster import Cluster, cluster
from kafka_exec.kafka.control.delays import Delays
from kafka_exec.kafka.nodes.node import Node
from tests.integration.child import Child
from tests.integration.workers import until

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


class Mover:
    """A node that moves messages and is no worker."""

    def __init__(self, servers: str, prefix: str, name: str = "mover") -> None:
        self.cluster = cluster({"bootstrap.servers": servers}, Settings())
        self.names = Topics(prefix)
        self.node = Node(name, self.cluster, nodes_topic(self.names))
        self.delays = Delays(self.cluster, self.names, self.node)

    def stop(self) -> None:
        assert self.delays.stop(30.0)
        self.node.stop()


@contextmanager
def moving(servers: str, prefix: str) -> Iterator[Mover]:
    """A :class:`Mover` that runs until the end of the block."""
    mover = Mover(servers, prefix)
    mover.delays.start()
    try:
        yield mover
    finally:
        mover.stop()


class MoverProcess(Child):
    """A mover in a process of its own that comes no further than to the commit of its first move."""

    def __init__(self, servers: str, prefix: str) -> None:
        super().__init__("tests.integration.delay_tools", servers, prefix)


class _Interrupted(Producer):  # type: ignore[misc]
    """Writes, and does not commit."""

    def commit_transaction(self, *args: Any) -> None:
        self.flush(10)
        print("open", flush=True)
        time.sleep(3600)


class Found(NamedTuple):
    """A record of a queue, with when it was read."""

    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes]
    partition: int
    time: float


class Reader:
    """Reads a topic as Kafka's own tools would, read_committed, from its beginning."""

    def __init__(self, servers: str, to: Cluster, topic: str) -> None:
        self.found: list[Found] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "isolation.level": "read_committed",
                "logger": logging.getLogger("kafka_exec.reader"),
            }
        )
        number = until(lambda: to.topics.partitions(topic, fresh=True), what=f"topic {topic}")
        self._consumer.assign([TopicPartition(topic, n, 0) for n in range(number)])

    def wait_for(self, number: int) -> list[Found]:
        """Waits until there are so many records; these are all."""
        deadline = time.monotonic() + PATIENCE
        while len(self.found) < number:
            assert time.monotonic() < deadline, f"{len(self.found)} records of {number}"
            for record in self._consumer.consume(1000, 0.05):
                if record.error() is None:
                    content = record.key(), record.value(), dict(record.headers() or ())
                    self.found.append(Found(*content, record.partition(), time.time()))
        assert len(self.found) == number
        return self.found

    def close(self) -> None:
        self._consumer.close()


def main(servers: str, prefix: str) -> None:
    mover = Mover(servers, prefix, "victim")
    new = mover.cluster.new_producer
    mover.cluster.new_producer = lambda properties: (  # type: ignore[method-assign]
        mover.cluster.new(_Interrupted, properties) if "transactional.id" in properties else new(properties)
    )
    mover.delays.start()
    while not mover.delays.driven:
        time.sleep(0.01)
    print("driving", flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
