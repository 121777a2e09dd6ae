"""The schedule in Kafka: all entries that beats have or that were added at run time, and what was changed of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import schedule_topic
from kafka_exec.core.record.fields import an_object, flag, moment
from kafka_exec.errors import ConfigurationError
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.table import Table

#: Whence an entry comes: the application's configuration, or added at run time.
CONFIG, ADDED = "config", "added"


#: The facts of a row that decide when an entry is fired, as they are read. One that cannot be read was not said.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("since", "request", "start"), moment),
    **dict.fromkeys(("policy", "given"), an_object),
    "paused": flag,
}


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _READERS or _can_be_read(name, value)}


def _can_be_read(name: str, value: Any) -> bool:
    try:
        _READERS[name](value)
    except ValueError:
        return False
    return True


class Book:
    """The entries' rows, by name. A row is a JSON object.

    ``source``: :data:`CONFIG` or :data:`ADDED`. ``definition``: its hash. ``task`` and ``schedule``: for people; of an added
    entry ``given`` is all that it says. ``start``: of an interval. ``policy``: as
    :meth:`~kafka_exec.core.beat.schedule.Policy.facts`. ``paused``: whether it is. ``since``: when it was resumed last.
    ``request``: when somebody asked to run it now. Times are epoch seconds.
    """

    def __init__(self, cluster: Cluster, topics: Topics) -> None:
        self._table = Table(cluster, schedule_topic(topics))

    @property
    def version(self) -> int:
        """Another one after every change."""
        return self._table.version

    def rows(self) -> dict[str, dict[str, Any]]:
        """All rows.

        Raises:
            ConnectionFailed: they cannot be read.
        """
        return {name: _checked(row) for name, row in self._table.rows().items() if isinstance(row, dict)}

    def note(self, name: str, facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """Stores an entry of the configuration; what was changed of it stays. The row before, if it said something else."""
        row = self.rows().get(name)
        told = {**facts, "source": CONFIG}
        if row is not None and all(row.get(key) == value for key, value in told.items()):
            return None
        kept = {key: row[key] for key in ("paused", "since", "request") if key in row} if row else {}
        self._table.put(name, {**kept, **told})
        return row

    def add(self, name: str, facts: Mapping[str, Any]) -> None:
        """Stores an entry that is added at run time.

        Raises:
            ConfigurationError: there is one of this name.
        """
        if name in self.rows():
            raise ConfigurationError(
                f"there is a periodic entry {name} already: remove it first, or choose another name"
            )
        self._table.put(name, {**facts, "source": ADDED})

    def change(self, name: str, **changes: Any) -> None:
        """Changes an entry's row.

        Raises:
            ConfigurationError: there is none of this name.
        """
        self._table.put(name, {**self._row(name), **changes})

    def remove(self, name: str) -> None:
        """Removes an entry; one of the configuration comes back with the next beat that has it.

        Raises:
            ConfigurationError: there is none of this name.
        """
        self._row(name)
        self._table.delete(name)

    def _row(self, name: str) -> dict[str, Any]:
        row = self.rows().get(name)
        if row is None:
            raise ConfigurationError(f"there is no periodic entry {name}: look with celery kafka schedule list")
        return row
