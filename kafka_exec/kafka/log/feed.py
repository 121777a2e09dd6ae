"""Partitions of a log, read from given offsets on, for a reader that keeps its positions elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import Message as Record

from kafka_exec.kafka.client.log_reading import get_to_know, is_end, is_record, poll_batch, position_after, read_from
from kafka_exec.kafka.client.profiles import FOLLOWING
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import TIMEOUT

_BATCH = 500


@dataclass
class Batch:
    """The records that came of a partition.

    Attributes:
        position: the next offset.
        at_end: True if there were no more.
    """

    records: list[Record] = field(default_factory=list)
    position: int = 0
    at_end: bool = False


class Feed:
    """The committed records of partitions. For one thread at a time, which must be a native one: it blocks in C.

    Args:
        starts: the offset to begin with, by partition; the first one that is left if it was deleted.

    Raises:
        KafkaExecError: the cluster does not answer, or refuses to be read.
    """

    def __init__(self, cluster: Cluster, topic: str, starts: Mapping[int, int]) -> None:
        self._cluster = cluster
        self._topic = topic
        self._consumer = cluster.new_consumer(FOLLOWING)
        try:
            get_to_know(self._consumer, topic, TIMEOUT)
            read_from(self._consumer, topic, starts)
        except BaseException:
            self.close()
            raise

    def read(self, timeout: float) -> dict[int, Batch]:
        """The records that have come, by partition; none if none comes within ``timeout`` seconds.

        Raises:
            KafkaExecError: the cluster refuses to be read.
        """
        found: dict[int, Batch] = {}
        for each in poll_batch(self._consumer, timeout, _BATCH):
            if is_record(each, self._topic):
                batch = found.setdefault(each.partition(), Batch())
                batch.records.append(each)
                batch.at_end = False
            elif is_end(each):
                batch = found.setdefault(each.partition(), Batch())
                batch.at_end = True
            else:
                continue
            batch.position = position_after(each)
        return found

    def close(self) -> None:
        """Ends the feed."""
        self._consumer.close()
        self._cluster.forget(self._consumer)
