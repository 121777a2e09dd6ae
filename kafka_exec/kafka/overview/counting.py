"""The counters of an exporter: a thread follows the state records from where they ended when it began."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from confluent_kafka import Message as Record

from kafka_exec.core.results.counters import TaskCounters
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import ConnectionFailed, Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.loop import Loop
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.feed import Feed

logger = logging.getLogger("kafka_exec")

#: How long one look at the records lasts at most, and how often a topic is looked for that does not exist, seconds.
_PAUSE = 1.0


class Counting:
    """Counts the state records of a topic that are written from :meth:`start` on.

    A topic that does not exist yet is counted from its first record. An error of reading is told, and counting goes on
    behind the last record that was counted.

    Attributes:
        counters: what was counted. Read it under :attr:`lock`.
    """

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._positions: dict[int, int] = {}
        self._feed: Feed | None = None
        self._has_looked = False
        self._loop = Loop("counting", self._turn, end=self._close)
        self.counters = TaskCounters()
        self.lock = native.lock()

    def start(self) -> None:
        """Notes where the topic ends, and starts the thread. If the cluster does not answer, the thread notes it later."""
        try:
            native.call(self._look)
        except ConnectionFailed as error:
            logger.warning("no counters of tasks yet: %s", error)
        self._loop.start()

    def stop(self, timeout: float) -> None:
        """Ends the thread within ``timeout`` seconds."""
        self._loop.stop()
        self._loop.join(timeout)

    def _look(self) -> None:
        """Finds where to begin in each partition: at its end, or at the begin of a topic that did not exist before."""
        number = self._cluster.topics.partitions(self._topic, fresh=True) or 0
        if self._has_looked:
            self._positions = dict.fromkeys(range(number), 0)
        elif number:
            self._positions = self._cluster.log.ends(self._topic, range(number))
        self._has_looked = True

    def _turn(self) -> None:
        if not self._positions:
            self._look()
            if not self._positions:
                self._loop.pause(_PAUSE)
                return
        if self._feed is None:
            self._feed = Feed(self._cluster, self._topic, self._positions)
        try:
            found = self._feed.read(_PAUSE)
        except BaseException:
            self._close()
            raise
        for partition, batch in found.items():
            self._count(batch.records)
            self._positions[partition] = batch.position

    def _count(self, records: Iterable[Record]) -> None:
        with self.lock:
            for record in records:
                if record.value() is None:  # a state that has expired
                    continue
                try:
                    self.counters.take(StateRecord.decode(record.value()))
                except Undecodable as error:
                    pass_over(record, error)

    def _close(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.close()
