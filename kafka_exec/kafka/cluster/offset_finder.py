"""Finding where logs begin and end, by a client that reads nothing: no answer waits behind a fetch.

Kafka answers the requests of a connection in their order. A consumer that follows a quiet log always has a fetch under way,
and its next request is answered when that fetch is over, a tenth of a second later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, TopicPartition

from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.client.failures import time_left, within
from kafka_exec.kafka.client.offsets import EARLIEST, LATEST, look_up
from kafka_exec.kafka.client.profiles import FINDING

#: How long finding offsets may take, seconds.
TIMEOUT = 10.0


class OffsetFinder:
    """Finds offsets of one topic's partitions, for one thread after the other.

    Each method raises ConnectionFailed if the cluster does not answer in time, and Forbidden if this user may not know the
    offsets.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._lock = native.lock()
        self._consumer = clients.new_consumer(FINDING)

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Finds the offset after the last record of each partition."""
        return self._find(topic, partitions, LATEST)

    def begins(self, topic: str, partitions: Iterable[int], since: float) -> dict[int, int]:
        """Finds the offset of each partition's first record from a time on, epoch seconds; its end if there is none."""
        found = self._find(topic, partitions, int(since * 1000) or EARLIEST)
        none_later = [number for number, offset in found.items() if offset < 0]
        return found | (self.ends(topic, none_later) if none_later else {})

    def _find(self, topic: str, partitions: Iterable[int], where: int) -> dict[int, int]:
        wanted = [TopicPartition(topic, number, where) for number in partitions]
        return native.call(self._look_up, topic, wanted)

    def _look_up(self, topic: str, wanted: list[TopicPartition]) -> dict[int, int]:
        with within(TIMEOUT), self._client(topic) as consumer:
            return {p.partition: p.offset for p in look_up(consumer, wanted, time_left(TIMEOUT))}

    @contextmanager
    def _client(self, topic: str) -> Iterator[Consumer]:
        if not self._lock.acquire(timeout=time_left(TIMEOUT)):
            raise ConnectionFailed(f"finding the offsets of {topic}: other look-ups are not answered")
        try:
            yield self._consumer
        finally:
            self._lock.release()

    def look_after(self) -> None:
        """Takes what the client has to tell, which it keeps until then; for a thread that comes by again and again."""
        if self._lock.acquire(False):
            try:
                self._consumer.poll(0)
            finally:
                self._lock.release()

    def close(self) -> None:
        """Ends it; nothing is found from then on."""
        if self._lock.acquire(timeout=TIMEOUT):
            self._consumer.close()
            self._clients.forget(self._consumer)
