"""Finding where logs begin and end, by a client that reads nothing: no answer waits behind a fetch.

Kafka answers the requests of a connection in their order. A consumer that follows a quiet log always has a fetch under way,
and its next request is answered when that fetch is over, a tenth of a second later.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import TopicPartition

from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.client.failures import time_left
from kafka_exec.kafka.client.offsets import EARLIEST, LATEST, look_up

#: How long finding offsets may take, seconds.
TIMEOUT = 10.0


class OffsetFinder:
    """Finds offsets of one topic's partitions; thread-safe, as no thread polls its client.

    Each method raises ConnectionFailed if the cluster does not answer in time, and Forbidden if this user may not know the
    offsets.
    """

    def __init__(self, clients: Clients) -> None:
        # The client library requires a group; no group is ever joined.
        self._consumer = clients.new_consumer({"group.id": "kafka_exec.offsets"})

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Finds the offset after the last record of each partition."""
        return self._find(topic, partitions, LATEST)

    def begins(self, topic: str, partitions: Iterable[int], since: float = 0) -> dict[int, int]:
        """Finds the offset of each partition's first record from a time on, epoch seconds; its end if there is none."""
        found = self._find(topic, partitions, int(since * 1000) or EARLIEST)
        none_later = [number for number, offset in found.items() if offset < 0]
        return found | self.ends(topic, none_later)

    def _find(self, topic: str, partitions: Iterable[int], where: int) -> dict[int, int]:
        wanted = [TopicPartition(topic, number, where) for number in partitions]
        return {p.partition: p.offset for p in native.call(look_up, self._consumer, wanted, time_left(TIMEOUT))}
