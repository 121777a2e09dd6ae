"""The choice of tasks by what is known of them: one filter for lists and for acts on many tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from kafka_exec.core.overview.choosing.expressions import Predicate, parse
from kafka_exec.core.results.lifecycle import TERMINAL, State
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import ConfigurationError

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_DISTANCE = re.compile(rf"(\d+(?:\.\d+)?) *({'|'.join(_UNITS)})")

#: The parts of a task with which a path of an expression may begin.
PARTS = frozenset(
    {
        "id",
        "name",
        "state",
        "status",
        "queue",
        "key",
        "worker",
        "attempts",
        "retries",
        "version",
        "step",
        "created",
        "started",
        "finished",
        "due",
        "args",
        "kwargs",
        "result",
        "error",
        "parent",
        "root",
        "group",
    }
)


#: The parts of tasks by which they can be counted.
COUNTED = ("state", "name", "queue", "key", "worker", "error")


@dataclass(frozen=True)
class TaskFilter:
    """A choice of tasks. What is None does not matter. Names, queues, keys and workers are shell patterns.

    Attributes:
        since, until: the last change of the task, epoch seconds: from then on, and before then.
        where: an expression over :data:`PARTS`.
    """

    name: str | None = None
    states: Collection[State] | None = None
    queue: str | None = None
    key: str | None = None
    worker: str | None = None
    since: float | None = None
    until: float | None = None
    where: Predicate | None = None

    @classmethod
    def of(cls, *, states: Collection[State] | None = None, active: bool = False, **others: Any) -> TaskFilter:
        """The filter of some options. ``active``: only tasks that have not ended; the others are those of the class."""
        allowed = frozenset(State) - TERMINAL if active else frozenset(State)
        if states is not None:
            allowed &= frozenset(states)
        return cls(states=None if allowed == frozenset(State) else allowed, **others)

    @property
    def chooses_all(self) -> bool:
        """True if it names nothing by which tasks are chosen."""
        return self == TaskFilter()

    def matches(self, record: StateRecord) -> bool:
        """True if it chooses the task of a state record."""
        at = changed(record)
        return (
            fits(self.name, record.name)
            and (self.states is None or record.state in self.states)
            and fits(self.queue, record.queue)
            and fits(self.key, record.ordering_key)
            and fits(self.worker, record.worker)
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (self.where is None or self.where(parts(record)))
        )

    def glance(self) -> Callable[[bytes], bool]:
        """A function that looks at a state record's value before it is decoded. False: the filter does not choose it.

        Most records of a large topic have ended well, and decoding them is most of the work of finding the others.
        """
        if self.states is None:
            return lambda value: True
        names = [state.value.encode() for state in self.states]
        return lambda value: any(name in value for name in names)


def changed(record: StateRecord) -> float:
    """The time of a task's last change that its record names, epoch seconds; 0 if it names none."""
    return record.finished or record.started or record.created or 0.0


def parts(record: StateRecord) -> Mapping[str, Any]:
    """The parts of a task that are known, as an expression names them."""
    found = {name: value for name, value in record.as_json().items() if name in PARTS}
    if record.ordering_key is not None:
        found["key"] = record.ordering_key
    if record.exception is not None:
        found["error"] = f"{record.exception.type}: {record.exception.message}"
    return found


def moment(text: str, now: float) -> float:
    """A time in epoch seconds: of an age such as ``90 s``, ``2h`` or ``1 d``, or of a date, which may name a time zone.

    Raises:
        ConfigurationError: it is neither.
    """
    return _time(text, now, -1, "age")


def time_to_come(text: str, now: float) -> float:
    """A time in epoch seconds: after a while such as ``90 s``, ``2h`` or ``1 d``, or of a date.

    Raises:
        ConfigurationError: it is neither.
    """
    return _time(text, now, 1, "time")


def _time(text: str, now: float, sign: int, what: str) -> float:
    if (distance := _DISTANCE.fullmatch(text.strip())) is not None:
        return max(0.0, now + sign * float(distance[1]) * _UNITS[distance[2]])
    try:
        return max(0.0, datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp())
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{text!r} is no {what} (90 s, 5 min, 2 h, 1 d) and no date (2026-01-31 14:00)"
        ) from None


def states_of(text: str) -> frozenset[State]:
    """States, separated by commas.

    Raises:
        ConfigurationError: there is no such state.
    """
    names = [each.strip().upper() for each in text.split(",")]
    if wrong := [name for name in names if name not in State.__members__]:
        raise ConfigurationError(f"{wrong[0]!r} is no state: there are {', '.join(State.__members__)}")
    return frozenset(map(State, names))


def expression(text: str) -> Predicate:
    """The predicate of an expression over :data:`PARTS`.

    Raises:
        ConfigurationError: it is no expression.
    """
    return parse(text, PARTS)


def fits(pattern: str | None, found: object) -> bool:
    """True if a text fits a shell pattern; None as the pattern fits everything."""
    return pattern is None or (isinstance(found, str) and fnmatchcase(found, pattern))
