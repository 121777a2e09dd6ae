"""The control plane's runtime beside a broker, here and in processes of its own; and chords played against it."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import TopicSpec, nodes_topic
from kafka_exec.core.control.chord import ChordReducer, FailChord, Fire
from kafka_exec.core.control.reducers import Command, Effect
from kafka_exec.kafka.cluster.cluster import Cluster, cluster
from kafka_exec.kafka.control.processor import Processor
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.publish.partitioner import partition_of
from kafka_exec.kafka.publish.scopes import Outgoing, captured, confirmed
from tests.integration.child import Child

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
PARTITIONS = 8


def until(condition: Any, timeout: float = PATIENCE, what: str = "") -> Any:
    """Waits until a condition holds; what it returned."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what or condition}"
        time.sleep(0.01)
    return found


class Plane:
    """A runtime whose bodies are records: of the topic that the chord's body names, with as many bytes as it wants."""

    def __init__(self, servers: str, prefix: str, name: str, unfinished: float = 3600.0) -> None:
        self.cluster = cluster({"bootstrap.servers": servers}, Settings())
        self.names = Topics(prefix)
        self.cluster.topics.ensure(TopicSpec(f"{prefix}.bodies", 1))
        self.node = Node(name, self.cluster, nodes_topic(self.names))
        self.runtime = Processor(
            self.cluster,
            self.names,
            self.node,
            {"chord": lambda: ChordReducer(unfinished=unfinished, fired=3600)},
            {Fire: self.perform, FailChord: self.perform},
        )

    def perform(self, effect: Effect) -> list[Outgoing]:
        assert isinstance(effect, (Fire, FailChord))
        body = effect.body or {}
        failed = isinstance(effect, FailChord)
        value = {
            "group": effect.group,
            "parts": [part.task for part in effect.parts],
            "reason": effect.reason if isinstance(effect, FailChord) else None,
            "padding": "" if failed else "x" * body.get("padding", 0),
        }
        if body.get("raises") and not failed:
            raise RuntimeError(body["raises"])
        topic = f"{self.names.prefix}.bodies" if failed else body.get("topic", f"{self.names.prefix}.bodies")
        with captured() as records:
            self.cluster.publisher.send(topic, json.dumps(value).encode(), key=effect.group)
        return records

    def start(self) -> Plane:
        self.runtime.start()
        return self

    def wait_for(self, number: int = PARTITIONS) -> None:
        until(lambda: len(self.runtime.driven) == number, what=f"{number} partitions driven")

    def stop(self) -> None:
        assert self.runtime.stop(30.0)
        self.node.stop()


@contextmanager
def planes(servers: str, prefix: str) -> Iterator[Any]:
    """Makes runtimes of this process; those that still run at the end are stopped."""
    made: list[Plane] = []

    def make(name: str, **options: Any) -> Plane:
        made.append(Plane(servers, prefix, name, **options).start())
        return made[-1]

    try:
        yield make
    finally:
        for plane in made:
            plane.stop()


class Chord:
    """The commands of one chord."""

    def __init__(self, group: str, size: int, run: str = "1", **body: Any) -> None:
        self.group = group
        self.size = Command("chord.size", {"group": group, "size": size, "header": None, "run": run})
        self.parts = [
            Command(
                "chord.part",
                {"group": group, "task": f"{group}-{n}", "index": n, "ok": True, "payload": "x" * 20, "body": body},
            )
            for n in range(size)
        ]

    @property
    def commands(self) -> list[Command]:
        return [self.size, *self.parts]


def in_each_partition(stem: str) -> list[str]:
    """A group id for each of the control plane's partitions."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < PARTITIONS:
        found.setdefault(partition_of(f"{stem}-{number}", PARTITIONS), f"{stem}-{number}")
        number += 1
    return [found[partition] for partition in range(PARTITIONS)]


def send(to: Cluster, prefix: str, commands: Iterable[Command]) -> None:
    """Appends commands durably, in this order within each partition."""
    topic = Topics(prefix).control
    with confirmed():
        for command in commands:
            to.publisher.send(topic, command.encode(), key=command.body.get("group"))


class Bodies:
    """Reads a topic of bodies, read_committed, from its beginning."""

    def __init__(self, servers: str, topic: str) -> None:
        self.records: list[dict[str, Any]] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "bodies",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "logger": logging.getLogger("kafka_exec.bodies"),
                "fetch.wait.max.ms": 20,
                "isolation.level": "read_committed",
            }
        )
        self._consumer.assign([TopicPartition(topic, 0, 0)])

    def read(self, timeout: float = 0.1) -> None:
        first = self._consumer.poll(timeout)
        for record in [first, *self._consumer.consume(1000, 0)] if first is not None else []:
            if record.error() is None:
                self.records.append(json.loads(record.value()))

    def wait_for(self, groups: Iterable[str], timeout: float = PATIENCE) -> float:
        """Waits for a body of each of these groups; the seconds it took."""
        wanted, began = set(groups), time.monotonic()
        while missing := wanted - {record["group"] for record in self.records}:
            assert time.monotonic() - began < timeout, f"{len(missing)} bodies are missing: {sorted(missing)[:5]}"
            self.read()
        return time.monotonic() - began

    def wait_for_all_before(self, to: Cluster, prefix: str, stem: str) -> None:
        """Waits until all commands sent so far were taken: new chords in each partition come behind them."""
        groups = in_each_partition(stem)
        send(to, prefix, [command for group in groups for command in Chord(group, 1).commands])
        self.wait_for(groups)

    @property
    def count(self) -> Counter[str]:
        return Counter(record["group"] for record in self.records)

    def of(self, group: str) -> dict[str, Any]:
        """The one body of a group."""
        (found,) = [record for record in self.records if record["group"] == group]
        return found

    def close(self) -> None:
        self._consumer.close()


class PlaneProcess(Child):
    """A runtime in a process of its own. ``mode``: ``drive``, or what is to happen in the first transaction of a chord,
    when its records are written and it is not committed: ``hang`` or ``stop`` (SIGSTOP)."""

    def __init__(self, servers: str, prefix: str, name: str, mode: str = "drive") -> None:
        super().__init__("tests.integration.control_tools", servers, prefix, name, mode)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_until_stopped(self) -> None:
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)


class _Interrupted(Producer):  # type: ignore[misc]
    """Its second transaction (the first takes the partition over) is interrupted before its commit."""

    mode = ""
    commits = 0

    def commit_transaction(self, *args: Any) -> None:
        self.commits += 1
        if self.commits == 2:
            self.flush(10)
            print("open", flush=True)
            if self.mode == "hang":
                time.sleep(3600)
            elif _Interrupted.mode == "stop":
                _Interrupted.mode = ""
                os.kill(os.getpid(), signal.SIGSTOP)
        super().commit_transaction(*args)


def main(servers: str, prefix: str, name: str, mode: str) -> None:
    plane = Plane(servers, prefix, name)
    if mode != "drive":
        _Interrupted.mode = mode
        plane.cluster.new_producer = lambda properties: plane.cluster.new(  # type: ignore[method-assign]
            _Interrupted if "transactional.id" in properties else Producer, properties
        )
    plane.start()
    plane.wait_for()
    print("driving", flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
