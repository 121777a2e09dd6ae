"""Delayed messages: the level on which each one waits in Kafka, for how long, and the queue that it goes to then.

A level is a partition of the delay topic. All its messages wait for the same time from their append on, so the first one is
always due first. A message goes to the level with the longest wait that ends before its time, then to the longest one that
fits into the rest, and so on. It may take the longest wait of all many times.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from math import isfinite
from typing import Any, NamedTuple

from kafka_exec.core.message.envelope import Headers, Message
from kafka_exec.core.message.window import MOST_STEPS
from kafka_exec.core.record.fields import an_object, digits, from_json, moment, whole
from kafka_exec.errors import Undecodable

#: A message goes to its queue so many seconds before its time. The worker's timer, which is exact, waits for the rest.
MARGIN = 1.0

#: A worker looks again after so many seconds if the log's time is not known yet.
_UNKNOWN = 0.1

#: A worker waits for its tasks' times in steps that are no shorter, seconds: it knows the log's time better at each step.
_LAST_STEP = 1.0

#: The wait of a level is so many times that of the level below; level 0 waits for a second.
_STEP = 4

_QUEUE = "delay-queue"
_PRIORITY_STEP = "delay-step"
_UNTIL = "delay-until"
_OWN = frozenset({_QUEUE, _PRIORITY_STEP, _UNTIL})


class DelayHeaders(NamedTuple):
    """The destination of a delayed message: a queue and its priority step. ``until``: the message's time, epoch seconds."""

    queue: str
    step: int
    until: float

    def write(self, headers: Headers) -> Headers:
        """The record headers of a delayed message: its own ``headers``, and those of this delay."""
        return [
            *headers,
            (_QUEUE, self.queue.encode()),
            (_PRIORITY_STEP, str(self.step).encode()),
            (_UNTIL, repr(self.until).encode()),
        ]

    @classmethod
    def read(cls, headers: Headers | None) -> tuple[DelayHeaders, Headers]:
        """The delay in a record's headers, and the headers without it: the inverse of :meth:`write`.

        Raises:
            Undecodable: the record is no delayed message.
        """
        found = dict(headers or ())
        try:
            delay = cls(
                (found[_QUEUE] or b"").decode(),
                whole(digits(found[_PRIORITY_STEP]), most=MOST_STEPS - 1),
                moment(float(found[_UNTIL] or b"")),
            )
        except (KeyError, ValueError) as error:
            raise Undecodable("no-delay", f"the record does not say where it is to go, and when: {error!r}") from None
        return delay, [(name, value) for name, value in headers or () if name not in _OWN]


def at_once(headers: Headers) -> Headers:
    """The record headers of a task without its time, so that no worker waits for that."""
    return [(name, _without_eta(value) if name == "headers" else value) for name, value in headers]


def _without_eta(value: bytes | None) -> bytes | None:
    try:
        found = an_object(from_json(value))
    except ValueError:
        return value  # its worker complains of it
    return json.dumps({**found, "eta": None}).encode() if found.get("eta") else value


def eta_of(message: Message) -> float | None:
    """The time of a task, epoch seconds; None if it has none, or one that cannot be read: the worker will complain.

    A time without a time zone is UTC, as for Celery's worker.
    """
    return time_of(message.task.get("eta"))


def time_of(eta: Any) -> float | None:
    """The time in a task's ``eta`` header, as in :func:`eta_of`."""
    if not isinstance(eta, str):
        return None
    try:
        found = datetime.fromisoformat(eta.replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None


def wait_of(level: int) -> float:
    """The wait of a level's messages, seconds."""
    return float(_STEP**level)


def level_for(remaining: float, levels: int) -> int | None:
    """The level on which a message waits next; None if it goes to its queue.

    Args:
        remaining: seconds until the message's time.
        levels: the number of levels.
    """
    spare, fitting = remaining - MARGIN, None
    for level in range(levels if isfinite(spare) else 0):
        if wait_of(level) > spare:
            break
        fitting = level
    return fitting


def hold_for(due: float, log_time: float | None) -> float:
    """The time after which a worker looks again if a task's time has come, seconds; 0 or less: it has come.

    Args:
        due: the task's time, epoch seconds.
        log_time: the time by the log's clock, epoch seconds; None if it is not known yet.
    """
    if log_time is None:
        return _UNKNOWN
    left = due - log_time
    return left if left <= _LAST_STEP else max(_LAST_STEP, left / 2)
