"""The workers' app in a process each of whose threads raises: before its first turn and its fourth, and amid its work."""

from __future__ import annotations

import functools
import itertools
from typing import Any

from kafka_exec.kafka.beat.exclusive import Exclusive
from kafka_exec.kafka.client.loop import Loop
from kafka_exec.kafka.control.delays import Delays
from kafka_exec.kafka.control.processor import Processor
from kafka_exec.kafka.queue.reader import GroupReader
from tests.integration.app import app  # noqa: F401 - is what celery looks for

#: Of what lasts as long as its loop, a step far within.
AMID = 30


def raising(function: Any, name: str, *when: int) -> Any:
    """The same function, which raises in some of its calls, before it does anything."""
    calls = itertools.count()

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if (number := next(calls)) in when:
            raise RuntimeError(f"{name}, call {number}")
        return function(*args, **kwargs)

    return call


make = Loop.__init__


def make_raising(self: Loop, name: str, turn: Any, **options: Any) -> None:
    make(self, name, raising(turn, f"turn of {name}", 0, 3), **options)


Loop.__init__ = make_raising  # type: ignore[method-assign]
for kind, step in ((GroupReader, "_step"), (Delays, "_step"), (Processor, "_step"), (Exclusive, "_turn")):
    setattr(kind, step, raising(getattr(kind, step), kind.__name__, AMID))
