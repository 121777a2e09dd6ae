"""A board of worker processes: each notes its tasks in a small shared file, so that watching costs it nothing."""

from __future__ import annotations

import functools
import mmap
import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

FOLDER = "BENCH_BOARD"
LAYOUT = struct.Struct("=qddqd")


class Row(NamedTuple):
    """One process: how many tasks it ended, when the first and the last, and which timed task it started when."""

    ended: int = 0
    first_end: float = 0.0
    last_end: float = 0.0
    sequence: int = -1
    started: float = 0.0


class _Writer:
    def __init__(self) -> None:
        path = Path(os.environ[FOLDER], f"{os.getpid()}.new")
        path.write_bytes(LAYOUT.pack(*Row()))
        with path.open("r+b") as opened:
            self.shared = mmap.mmap(opened.fileno(), LAYOUT.size)
        path.rename(path.with_suffix(".row"))
        self.row = Row()

    def write(self, row: Row) -> None:
        self.row = row
        LAYOUT.pack_into(self.shared, 0, *row)


@functools.cache
def _writer() -> _Writer:
    """Opened by the first task, which is after the fork."""
    return _Writer()


def end() -> None:
    """Counts one task of this process as ended."""
    now = time.time()
    writer = _writer()
    row = writer.row
    writer.write(row._replace(ended=row.ended + 1, first_end=row.first_end or now, last_end=now))


def ready() -> None:
    """Notes that a worker is ready."""
    path = Path(os.environ[FOLDER], f"{os.getpid()}.started")
    path.write_text(str(time.time()))
    path.rename(path.with_suffix(".ready"))


def start(sequence: int) -> None:
    """Notes that the timed task ``sequence`` has started in this process."""
    now = time.time()
    writer = _writer()
    writer.write(writer.row._replace(sequence=sequence, started=now))


class Reader:
    """Reads the rows of all processes that write into ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.maps: dict[Path, mmap.mmap] = {}

    def rows(self) -> list[Row]:
        """The rows as they are now; a row may be caught half written."""
        return [Row(*LAYOUT.unpack_from(shared)) for shared in self.maps.values()]

    def look_for_processes(self) -> None:
        """Finds the processes that have begun to write since the last look."""
        for path in self.folder.glob("*.row"):
            if path not in self.maps:
                with path.open("rb") as opened:
                    self.maps[path] = mmap.mmap(opened.fileno(), LAYOUT.size, access=mmap.ACCESS_READ)
