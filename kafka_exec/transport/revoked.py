"""The ids of revoked tasks, kept in Kafka: a task may wait longer than any worker lives."""

from __future__ import annotations

import time
from collections.abc import Iterable

from kafka_exec.core.cluster.topology import revoked_topic
from kafka_exec.kafka.log.table import Table
from kafka_exec.kafka.publish.scopes import confirmed
from kafka_exec.transport.namespace import Namespace


class Revoked:
    """What has been revoked in a namespace, by any worker."""

    def __init__(self, space: Namespace) -> None:
        self._table = Table(space.cluster, revoked_topic(space.settings, space.topics))
        self._kept_for = space.settings.revoked_retention

    def load(self) -> None:
        """Reads what there is, and keeps up with it from now on.

        Raises:
            ConnectionFailed: it could not be read to its end.
        """
        self._table.load()

    def add(self, ids: Iterable[str]) -> None:
        """Keeps ids, durably.

        Raises:
            NotConfirmed: some are not kept.
        """
        with confirmed():
            for task_id in ids:
                if task_id not in self:
                    self._table.put(task_id, time.time())

    def __contains__(self, task_id: object) -> bool:
        revoked = self._table.get(task_id) if isinstance(task_id, str) else None
        return isinstance(revoked, float) and time.time() - revoked < self._kept_for
