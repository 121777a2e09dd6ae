"""The offset of the last record of each key of a log, in a private temporary database: bounded memory for any number."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator

from confluent_kafka import Message as Record

from kafka_exec.core.results.lifecycle import Rank, split_key
from kafka_exec.kafka.client import native

#: The part of the database in memory, KiB; the rest is in a temporary file.
_CACHE = 8192
_LEAST_CACHE = 512

# A row is (task hash with the rank in its last two bits, offset with the tombstone in its last bit). Python's hash of
# texts is secret and of 64 bits: that two tasks share one is as good as impossible.
_RANKS = 3

#: Offsets are fetched so many at a time.
_BATCH = 1000

# SQLite has locks of the whole process. A child that was forked while another thread held one would wait for it for ever,
# so no thread uses SQLite at the moment of a fork.
_lock = native.lock()
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def _row_id(task_id: str, rank: int) -> int:
    return hash(task_id) & ~_RANKS | rank


class StateIndex:
    """Offsets by task. Thread-safe. Records of a partition come in any order until it is :meth:`complete`, then in order."""

    def __init__(self) -> None:
        with _lock:
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._database.execute(f"PRAGMA cache_size = -{_CACHE}")
            self._database.execute("PRAGMA journal_mode = OFF")
        self._known: set[int] = set()
        self._complete: set[int] = set()

    def note(self, partition: int, records: Iterable[Record]) -> None:
        """Notes records of a partition; keys that are no text are passed over."""
        rows: dict[int, int] = {}
        for record in records:
            try:
                task_id, rank = split_key(record.key().decode())
            except (AttributeError, UnicodeDecodeError):
                continue
            rows[_row_id(task_id, rank)] = record.offset() << 1 | (record.value() is None)
        with _lock:
            table = self._table(partition)
            self._database.execute("BEGIN")
            self._database.executemany(
                f"INSERT INTO {table} VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET place = excluded.place "
                "WHERE excluded.place > place",
                rows.items(),
            )
            if partition in self._complete:
                removed = [(row,) for row, place in rows.items() if place & 1]
                self._database.executemany(f"DELETE FROM {table} WHERE id = ?", removed)
            self._database.execute("COMMIT")

    def complete(self, partition: int) -> None:
        """Notes that no earlier record is to come, so that removed records need not be remembered."""
        with _lock:
            self._database.execute(f"DELETE FROM {self._table(partition)} WHERE place & 1")
            self._complete.add(partition)

    def offsets(self, partition: int, task_id: str) -> dict[Rank, int]:
        """The offsets of the last records of a task, without removed ones."""
        with _lock:
            found = self._database.execute(
                f"SELECT id, place FROM {self._table(partition)} WHERE id BETWEEN ? AND ? AND NOT place & 1",
                (_row_id(task_id, 0), _row_id(task_id, _RANKS)),
            ).fetchall()
        return {Rank(row & _RANKS): place >> 1 for row, place in found}

    def strongest(self, partition: int, of: int = 1) -> Iterator[int]:
        """The offset of the strongest record of each task, ascending; nothing may be noted meanwhile.

        Args:
            of: so many partitions are asked at the same time. Each answer is sorted, in as much memory as a cache has.
        """
        with _lock:
            self._database.execute(f"PRAGMA cache_size = -{max(_LEAST_CACHE, _CACHE // of)}")
            rows = self._database.execute(
                f"SELECT max(id), place FROM {self._table(partition)} WHERE NOT place & 1 GROUP BY id >> 2 ORDER BY place"
            )
        while True:
            with _lock:
                batch = rows.fetchmany(_BATCH)
            if not batch:
                return
            yield from (place >> 1 for _, place in batch)

    def _table(self, partition: int) -> str:
        name = f"partition_{int(partition)}"
        if partition not in self._known:
            self._database.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, place INTEGER NOT NULL)")
            self._known.add(partition)
        return name

    def close(self) -> None:
        """Closes the database; its temporary file goes with it."""
        with _lock:
            self._database.close()
