"""A store beside Kafka, in which tasks write what they do: an SQLite file, ``EXAMPLE_DIARY``."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

_TABLES = """
CREATE TABLE IF NOT EXISTS diary (at REAL, what TEXT, task TEXT, worker TEXT, pid INTEGER, number REAL);
CREATE TABLE IF NOT EXISTS packages (name TEXT PRIMARY KEY, files INTEGER, lines INTEGER, fence INTEGER);
"""

#: An older number than the stored one changes nothing: it is that of a worker which was paused meanwhile.
_ADD = """
INSERT INTO packages VALUES (:name, 1, :lines, :fence)
ON CONFLICT (name) DO UPDATE SET files = files + 1, lines = lines + :lines, fence = :fence WHERE fence < :fence
"""


class Entry(NamedTuple):
    """What a task has written. ``number``: what else it had to tell, such as its slot."""

    at: float
    what: str
    task: str
    worker: str
    pid: int
    number: float


@contextlib.contextmanager
def opened() -> Iterator[sqlite3.Connection]:
    """The store, with what the block does in one transaction."""
    connection = sqlite3.connect(os.environ.get("EXAMPLE_DIARY", "celery_app.sqlite"), timeout=60)
    try:
        connection.executescript(_TABLES)
        with connection:
            yield connection
    finally:
        connection.close()


def note(what: str, request: Any, number: float = 0.0) -> None:
    """Writes a line of a task, by its ``self.request``."""
    values = (time.time(), what, request.id, request.hostname or "", os.getpid(), number)
    with opened() as connection:
        connection.execute("INSERT INTO diary VALUES (?, ?, ?, ?, ?, ?)", values)


def read(what: str, *tasks: str) -> list[Entry]:
    """The lines of a kind, of some tasks or of all, in the order of their times."""
    with opened() as connection:
        rows = connection.execute("SELECT * FROM diary WHERE what = ? ORDER BY at", (what,)).fetchall()
    return [entry for entry in (Entry(*row) for row in rows) if not tasks or entry.task in tasks]


def add_file(package: str, lines: int, fence: int) -> bool:
    """Counts a file of a package. Returns False if a later run of the package has counted already."""
    with opened() as connection:
        done = connection.execute(_ADD, {"name": package, "lines": lines, "fence": fence})
        return done.rowcount == 1


def package(name: str) -> tuple[int, int, int]:
    """The files and lines of a package that were counted, and the greatest fencing token of these runs."""
    with opened() as connection:
        row = connection.execute("SELECT files, lines, fence FROM packages WHERE name = ?", (name,)).fetchone()
    return (0, 0, 0) if row is None else (row[0], row[1], row[2])
