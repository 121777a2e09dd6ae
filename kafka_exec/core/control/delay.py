"""Messages that wait for their time in Kafka: on which level, for how long, and where they go then.

A level is a partition of the delay topic. All its messages wait equally long from when they were appended, so its first is
always due first, whatever their times are. A message takes the longest wait that ends before its time, then the longest of
the rest, and so on; the longest of all is taken as often as needed.
"""

from __future__ import annotations

from datetime import datetime, timezone
from math import isfinite
from typing import Any, NamedTuple

from kafka_exec.core.message.envelope import Headers, Message
from kafka_exec.core.message.window import MOST_STEPS
from kafka_exec.core.record.fields import digits, moment, whole
from kafka_exec.errors import Undecodable

#: A message goes to its queue so long before its time, seconds: what is left is the timer's of the worker, which is exact.
MARGIN = 1.0

#: How much longer each level's messages wait than those of the level below, where it is a second.
_STEP = 4

_QUEUE = "delay-queue"
_PRIORITY_STEP = "delay-step"
_UNTIL = "delay-until"
_OWN = frozenset({_QUEUE, _PRIORITY_STEP, _UNTIL})


class Delay(NamedTuple):
    """Where a message goes when it has waited: a queue's priority step. ``until``: its time, epoch seconds."""

    queue: str
    step: int
    until: float

    def write(self, headers: Headers) -> Headers:
        """The record headers of a message that waits, made of its own."""
        return [
            *headers,
            (_QUEUE, self.queue.encode()),
            (_PRIORITY_STEP, str(self.step).encode()),
            (_UNTIL, repr(self.until).encode()),
        ]

    @classmethod
    def read(cls, headers: Headers | None) -> tuple[Delay, Headers]:
        """The opposite of :meth:`write`.

        Raises:
            Undecodable: the record was not written as one that waits.
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


def eta_of(message: Message) -> float | None:
    """A task's time, epoch seconds; None if it has none, or one that cannot be read: the worker will tell of it.

    Without a time zone it is UTC, as for Celery's worker.
    """
    return time_of(message.task.get("eta"))


def time_of(eta: Any) -> float | None:
    """The time that a task's ``eta`` header says, as of :func:`eta_of`."""
    if not isinstance(eta, str):
        return None
    try:
        found = datetime.fromisoformat(eta.replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None


def wait_of(level: int) -> float:
    """How long the messages of a level wait, seconds."""
    return float(_STEP**level)


def level_for(remaining: float, levels: int) -> int | None:
    """Where a message waits next; None: it goes to its queue.

    Args:
        remaining: seconds until its time.
        levels: how many there are.
    """
    spare, fitting = remaining - MARGIN, None
    for level in range(levels if isfinite(spare) else 0):
        if wait_of(level) > spare:
            break
        fitting = level
    return fitting
