"""A node without a Kafka, for tests of what it learns from heartbeats."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.kafka.nodes.node import Node


class Beats:
    """A node, which is given the log of heartbeats by hand."""

    def __init__(self) -> None:
        post = SimpleNamespace(post=lambda *args, **more: None)
        settings = SimpleNamespace(heartbeat=1.0, health_file=None)
        cluster: Any = SimpleNamespace(settings=settings, publisher=post)
        self.node = Node("me@here", cluster, TopicSpec("nodes", 1, {}))
        self._offset = 0

    def hear(self, name: str, beat: Heartbeat, at: float) -> None:
        offset, self._offset = self._offset, self._offset + 1
        record: Any = SimpleNamespace(
            offset=lambda: offset,
            key=lambda: name.encode(),
            value=beat.encode,
            timestamp=lambda: (1, int(1000 * at)),
        )
        self.node._take(record)
