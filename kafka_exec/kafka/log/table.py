"""A compacted topic as a dictionary that all processes share."""

from __future__ import annotations

import json
import time
from typing import Any

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.record.fields import from_json
from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import time_left, within
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import history
from kafka_exec.kafka.publish.scopes import uncaptured

#: How long reading a table to its end may take, seconds.
TIMEOUT = 10.0


class Table:
    """Key to JSON value, on a compacted topic of one partition.

    Writing needs no reading. The first read reads the whole table and then keeps up with it; later ones do not wait.
    """

    def __init__(self, cluster: Cluster, spec: TopicSpec) -> None:
        self._cluster = cluster
        self._spec = spec
        self._rows: dict[str, Any] = {}
        #: Changes with every change of a row.
        self.version = 0
        self._arrived = native.lock()
        self._loaded = False

    def put(self, key: str, value: Any) -> None:
        """Sets a row; it is durable when this returns, unless a scope confirms it later."""
        self._write(key, json.dumps(value).encode())
        self._rows[key] = value
        self.version += 1

    def note(self, key: str, value: Any) -> None:
        """Sets a row without waiting: for a row that is written again soon."""
        with uncaptured():
            self._cluster.publisher.post(self._spec.name, json.dumps(value).encode(), key=key)

    def delete(self, key: str) -> None:
        """Removes a row, durably."""
        self._write(key, None)
        self._rows.pop(key, None)
        self.version += 1

    def _write(self, key: str, value: bytes | None) -> None:
        self._cluster.topics.ensure(self._spec)
        # In a transaction a marker would follow the record, and no reader that reads to the end would see the marker.
        with uncaptured():
            self._cluster.publisher.send(self._spec.name, value, key=key)

    def rows(self) -> dict[str, Any]:
        """All rows, as a copy.

        Raises:
            ConnectionFailed: the table could not be read to its end.
        """
        self.load()
        while True:
            try:
                return dict(self._rows)
            except RuntimeError:
                continue  # changed while it was copied

    def get(self, key: str) -> Any:
        """A row as far as the table is read; None if there is no such row."""
        return self._rows.get(key)

    def load(self) -> None:
        """Reads the whole table, once.

        Raises:
            ConnectionFailed: it could not be read to its end in time.
            Forbidden: this user may not read it.
        """
        if not self._loaded:
            self._load()

    def _load(self) -> None:
        with within(TIMEOUT):
            while not self._arrived.acquire(False):
                self._look_at_the_time()
                time.sleep(0.005)  # another thread or greenlet reads it
            try:
                if not self._loaded:
                    self._read()
                    self._loaded = True
            finally:
                self._arrived.release()

    def _read(self) -> None:
        self._cluster.topics.ensure(self._spec)
        topic, log = self._spec.name, self._cluster.log
        begin, end = log.begin(topic, 0, since=0), log.ends(topic, [0])[0]
        native.call(self._read_to, begin, end)
        log.follow(topic, {0: end}, {0: self._take})

    def _read_to(self, begin: int, end: int) -> None:
        for batch in history(self._cluster, self._spec.name, 0, end, begin):
            self._look_at_the_time()
            for record in batch:
                self._take(record)

    def _look_at_the_time(self) -> None:
        if not time_left(TIMEOUT):
            raise ConnectionFailed(f"topic {self._spec.name} could not be read in time")

    def _take(self, record: Record) -> None:
        key, value = record.key(), record.value()
        if key is None:
            return
        try:
            name, row = key.decode(), from_json(value)
        except ValueError as error:
            pass_over(record, error)
            return
        if value is None:
            self._rows.pop(name, None)
        else:
            self._rows[name] = row
        self.version += 1  # after the row: what a reader has computed of this version has the row in it
