"""The file by which a probe on this machine knows that a node lives: :mod:`kafka_exec.health` reads it."""

from __future__ import annotations

import logging
import os

from kafka_exec import health

logger = logging.getLogger("kafka_exec")


class HealthFile:
    """The file of one node.

    Args:
        path: the setting; None: the node writes no file.

    Attributes:
        heard: when the node last read one of its own heartbeats back, seconds of the monotonic clock; None: never yet.
    """

    def __init__(self, path: str | os.PathLike[str] | None, kind: str, name: str) -> None:
        self._file = None if path is None else health.file_of(os.fspath(path), kind, name)
        self._name = name
        self._is_told = False
        self.heard: float | None = None

    def write(self, turned: float) -> None:
        """Writes the file. ``turned``: when the reader of Kafka last made a turn, seconds of the monotonic clock."""
        if self._file is None:
            return
        try:
            health.write(self._file, health.Signs(self._name, os.getpid(), turned, self.heard))
        except OSError as error:
            if not self._is_told:
                logger.warning("the health of %s is not told, its file cannot be written: %s", self._name, error)
            self._is_told = True

    def remove(self) -> None:
        """Removes the file: the node stops in order."""
        if self._file is not None:
            health.remove(self._file)
