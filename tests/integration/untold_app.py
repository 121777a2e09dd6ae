"""The app of the tests, whose first worker with an answer to tell is killed when its decision is committed."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from kafka_exec.kafka.control.partition import ControlPartition
from tests.integration.app import app  # noqa: F401 - the app of this module

_tell = ControlPartition._tell


def mark() -> Path:
    """The file that exists as soon as a worker was killed."""
    return Path(f"{os.environ['EFFECTS']}-untold")


def _die_untold(self: ControlPartition) -> None:
    if any(step.news for step in self._written):
        with suppress(FileExistsError):
            mark().touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
    _tell(self)


ControlPartition._tell = _die_untold  # type: ignore[method-assign]
