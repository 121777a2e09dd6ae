"""The schedule in Kafka: the entries that beats have or that were added at run time, and the changes to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import schedule_topic
from kafka_exec.core.record.fields import an_object, flag, moment
from kafka_exec.errors import ConfigurationError, NoSuchEntry
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.table import Table

#: The source of an entry: the application's configuration, or an addition at run time.
CONFIG, ADDED = "config", "added"


#: The readers of those facts of a row that decide when an entry is fired. A fact that cannot be read is left out.
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


class ScheduleTable:
    """The table of the entries' rows, by name. A row is a JSON object. Times are epoch seconds.

    ``source``: :data:`CONFIG` or :data:`ADDED`. ``definition``: the hash of the entry's definition. ``task`` and
    ``schedule``: texts for people. ``given``: the whole definition of an added entry. ``start``: the start of an interval.
    ``policy``: as :meth:`~kafka_exec.core.beat.schedule.Policy.facts` has it. ``paused``: true if the entry is paused.
    ``since``: the time of its last resumption. ``request``: the time of the last request to run it at once.
    """

    def __init__(self, cluster: Cluster, topics: Topics) -> None:
        self._table = Table(cluster, schedule_topic(topics))

    @property
    def version(self) -> int:
        """The table's version, a number that changes with every change of a row."""
        return self._table.version

    def rows(self) -> dict[str, dict[str, Any]]:
        """All rows, by the entry's name.

        Raises:
            ConnectionFailed: the rows cannot be read.
        """
        return {name: _checked(row) for name, row in self._table.rows().items() if isinstance(row, dict)}

    def note(self, name: str, facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """Stores an entry of the configuration; changes at run time stay. Returns the old row if its facts were others."""
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
            ConfigurationError: there is an entry of this name.
        """
        if name in self.rows():
            raise ConfigurationError(
                f"there is a periodic entry {name} already: remove it first, or choose another name"
            )
        self._table.put(name, {**facts, "source": ADDED})

    def change(self, name: str, **changes: Any) -> None:
        """Changes an entry's row.

        Raises:
            NoSuchEntry: there is no entry of this name.
        """
        self._table.put(name, {**self._row(name), **changes})

    def remove(self, name: str) -> None:
        """Removes an entry; an entry of the configuration comes back with the next beat that has it.

        Raises:
            NoSuchEntry: there is no entry of this name.
        """
        self._row(name)
        self._table.delete(name)

    def _row(self, name: str) -> dict[str, Any]:
        row = self.rows().get(name)
        if row is None:
            raise NoSuchEntry(f"there is no periodic entry {name}: look with celery kafka schedule list")
        return row
