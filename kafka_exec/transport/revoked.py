"""The ids of revoked tasks. They are kept in Kafka, because a task may wait longer than any worker lives."""

from __future__ import annotations

import time
from collections.abc import Iterable

from kafka_exec.core.cluster.topology import revoked_topic
from kafka_exec.kafka.log.table import Table
from kafka_exec.kafka.publish.scopes import confirmed
from kafka_exec.transport.namespace import Namespace


class Revoked:
    """The tasks of a namespace that any worker was told to revoke."""

    def __init__(self, space: Namespace) -> None:
        self._table = Table(space.cluster, revoked_topic(space.settings, space.topics))
        self._kept_for = space.settings.revoked_retention

    def load(self) -> None:
        """Reads all revoked ids, and follows the topic from now on.

        Raises:
            ConnectionFailed: the topic could not be read to its end.
        """
        self._table.load()

    def add(self, ids: Iterable[str]) -> None:
        """Writes ids of revoked tasks, durably.

        Raises:
            NotConfirmed: some ids may not have been written.
        """
        with confirmed():
            for task_id in ids:
                if task_id not in self:
                    self._table.put(task_id, time.time())

    def __contains__(self, task_id: object) -> bool:
        revoked = self._table.get(task_id) if isinstance(task_id, str) else None
        return isinstance(revoked, float) and time.time() - revoked < self._kept_for
