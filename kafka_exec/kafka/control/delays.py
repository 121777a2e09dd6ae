"""Moving the messages that wait for their time: this process's share of the levels, driven by one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence

from confluent_kafka import Consumer
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import delay_state_topic, delay_topic
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.control.level import DelayTopics, Level
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.nodes.share import Share
from kafka_exec.kafka.queue.finding import among

#: The longest poll, seconds: bounds the wait at a change of owners.
_POLL = 0.5

#: The most records of one poll.
_BATCH = 1000


class Delays(Share[Level]):
    """Drives this node's share of the levels.

    Args:
        topics: the names of the topics, with whose prefix the transactional ids begin too.
        node: sends the heartbeats by which the others know of this one.
    """

    fetch_wait = 500

    def __init__(self, cluster: Cluster, topics: Topics, node: Node) -> None:
        settings = cluster.settings
        self._topics = DelayTopics(delay_topic(settings, topics), delay_state_topic(settings, topics))
        super().__init__(cluster, node, "delays", "delays", self._topics)
        self._names = topics
        self._requests: deque[Mapping[int, Collection[int]]] = deque()
        node.on_request = self._requests.append

    @property
    def driven(self) -> frozenset[int]:
        """The levels whose messages this node moves."""
        return frozenset(list(self._partitions))

    def first(self, most: int) -> list[Record]:
        """The first messages that wait on each level of this node, ``most`` of each at most; from any thread.

        Raises:
            ConnectionFailed: they could not be read.
        """
        return list(self._first(most))

    def find(self, ids: Collection[str], most: int) -> list[Record]:
        """The messages of :meth:`first` that are of tasks with these ids."""
        return list(among(self._first(most), ids))

    def _first(self, most: int) -> Iterator[Record]:
        for _, level in sorted(
            self._partitions.items(), reverse=True
        ):  # in the order in which messages move: none is missed
            yield from level.first(most)

    def _make(self, number: int) -> Level:
        return Level(self._cluster, self._names, self._topics, number, self._count)

    def _take_over(self, consumer: Consumer, partitions: Sequence[Level]) -> None:
        """Begins to watch levels. Fencing their former owners, with a producer each, has time until there is a message."""
        self._partitions.update((level.number, level) for level in partitions)

    def _step(self, consumer: Consumer) -> None:
        now = self._node.log_time() or 0.0
        for level in self._partitions.values():
            level.flow(consumer, now)
        read = self._read(consumer, self._time_to_read(now), _BATCH)
        now = self._node.log_time() or 0.0
        self._ask()
        for (_, number), batch in read.items():
            if number in self._partitions:
                self._partitions[number].take(batch, now)
        self._fence_where_needed(consumer)
        fenced = [level for level in self._partitions.values() if level.fenced]
        for level in fenced:
            self._guarded(consumer, level, lambda level: level.begin(now))
        for level in fenced:
            if level.number in self._partitions:
                self._guarded(consumer, level, Level.settle)

    def _ask(self) -> None:
        """Takes the requests to move messages ahead of their time. Those for other levels are other nodes'."""
        while self._requests:
            for number, offsets in self._requests.popleft().items():
                if (level := self._partitions.get(number)) is not None:
                    level.ask(offsets)

    def _finish(self, consumer: Consumer) -> None:
        """Does nothing: no write is under way between two steps."""

    def _time_to_read(self, now: float) -> float:
        times = [level.next_due for level in self._partitions.values()]
        return min(max(0.0, min((due - now for due in times if due is not None), default=_POLL)), _POLL)

    def _unassign(self, consumer: Consumer, partition: Level) -> None:
        partition.stop_reading(consumer)

    def _fence_where_needed(self, consumer: Consumer) -> None:
        """Fences the former owners of levels with a first message. Reads these anew, from those owners' positions on."""
        found = [level for level in self._partitions.values() if level.has_news]
        for level in found:
            self._drop(consumer, level)
        for level in self._fence(found) if found else ():
            self._partitions[level.number] = level
