"""Suspensions as their reducer remembers them: by correlation id, in little memory."""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from kafka_exec.core.control.wait_table import WaitPhase
from kafka_exec.core.record.fields import a_list, flag, moment, text, texts, whole

#: The number of other tasks with one id that are remembered.
_PAST = 8

#: The callbacks of the many ids that have none. Nobody writes into it.
NONE: dict[str, str] = {}

#: A suspension as it is remembered: its task, when that was first sent, and the number of the durable call.
Place = tuple[str, float, int]

# Phase, tells, created, until, number, partition, expected, offset; the task's id follows.
_PACKED = struct.Struct("<B?dd3IQ")

_PHASES = tuple(WaitPhase)


@dataclass(slots=True)
class Waiter:
    """A correlation id.

    Attributes:
        task, created, number, partition, offset: the suspension.
        expected: the number of callbacks, or, while it waits, their ids.
        until: the deadline of a suspension, or the time up to which the id is remembered; None: there is no deadline.
        got: the data of the callbacks, by their ids.
        past: the newest suspensions of other tasks that were answered or refused: task, created, number.
        watched: the tasks whose ends are looked for while it waits.
        tells: the task's state tells which callbacks have come.
    """

    phase: WaitPhase = WaitPhase.UNKNOWN
    task: str = ""
    created: float = 0.0
    number: int = 0
    partition: int = 0
    offset: int = 0
    expected: int | frozenset[str] = 0
    until: float | None = None
    got: dict[str, str] = field(default_factory=lambda: NONE)
    past: tuple[Place, ...] = ()
    watched: tuple[str, ...] = ()
    tells: bool = False

    @property
    def needs(self) -> int:
        return self.expected if isinstance(self.expected, int) else len(self.expected)

    @property
    def page(self) -> tuple[int, int]:
        return self.partition, self.offset

    def keep(self, callback: str, data: str) -> None:
        if not self.got:
            self.got = {}
        self.got.pop(callback, None)  # one that is restored twice has the place of the second time
        self.got[callback] = data

    @property
    def place(self) -> Place:
        return self.task, self.created, self.number

    def has_seen(self, other: Waiter) -> bool:
        """True if a suspension is this one, or a past one, or an earlier one of such a task."""
        return any(
            (other.task, other.created) == (task, created) and other.number <= number
            for task, created, number in (self.place, *self.past)
        )

    def note(self, other: Waiter) -> None:
        """Remembers a suspension as a past one."""
        others = [each for each in self.past if each[:2] != other.place[:2]]
        newest = max([other.place, *(each for each in self.past if each not in others)])
        self.past = (*others, newest)[-_PAST:]

    def head(self) -> list[Any]:
        """The facts of the id but for the callbacks, as JSON values."""
        expected = self.expected if isinstance(self.expected, int) else sorted(self.expected)
        suspension = [self.task, self.created, self.number, [*self.page], expected]
        return [self.phase.name, *suspension, self.until, self.past, self.watched, self.tells]

    @classmethod
    def of_head(cls, head: Any) -> Waiter:
        """The inverse of :meth:`head`.

        Raises:
            ValueError, KeyError: it is no such list.
        """
        phase, task, created, number, page, expected, until, past, watched, tells = a_list(head)
        partition, offset = a_list(page)
        return cls(
            WaitPhase[text(phase)],
            text(task),
            moment(created),
            whole(number),
            whole(partition),
            whole(offset),
            frozenset(texts(expected)) if isinstance(expected, list) else whole(expected),
            None if until is None else moment(until),
            NONE,
            tuple((text(t), moment(made), whole(n)) for t, made, n in map(a_list, a_list(past))),
            texts(watched),
            flag(tells),
        )

    def packed(self) -> bytes | Waiter:
        """A short form of an id that has neither callbacks nor more than a number of them; any other one as it is."""
        if self.got or self.past or self.watched or not isinstance(self.expected, int):
            return self
        phase, until = _PHASES.index(self.phase), math.nan if self.until is None else self.until
        numbers = (self.number, self.partition, self.expected, self.offset)
        try:
            return _PACKED.pack(phase, self.tells, self.created, until, *numbers) + _short(self.task)
        except struct.error:  # a number is larger than those that occur
            return self

    @classmethod
    def of_packed(cls, packed: bytes) -> Waiter:
        """The inverse of :meth:`packed`."""
        phase, tells, created, until, number, partition, expected, offset = _PACKED.unpack_from(packed)
        until = None if math.isnan(until) else until
        task = _long(packed[_PACKED.size :])
        return cls(_PHASES[phase], task, created, number, partition, offset, expected, until, tells=tells)


class Waiters:
    """The correlation ids of one partition. What is changed must be put back."""

    def __init__(self) -> None:
        self._waiters: dict[str, bytes | Waiter] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._waiters)

    def get(self, name: str) -> Waiter:
        """The id; a new one if nothing is known of it."""
        found = self._waiters.get(name)
        if found is None:
            return Waiter()
        return Waiter.of_packed(found) if isinstance(found, bytes) else found

    def put(self, name: str, waiter: Waiter) -> None:
        """Remembers an id; in the phase UNKNOWN it is forgotten, unless it has callbacks."""
        if waiter.phase is WaitPhase.UNKNOWN and not waiter.got:
            self._waiters.pop(name, None)
        else:
            self._waiters[name] = waiter.packed()

    def forget(self, name: str) -> None:
        """Forgets an id with its callbacks."""
        self._waiters.pop(name, None)

    def of_tasks(self, tasks: Collection[str]) -> list[str]:
        """The ids of which one of these tasks is the newest."""
        short = {_short(task) for task in tasks}
        return [
            name
            for name, each in self._waiters.items()
            if (each[_PACKED.size :] in short if isinstance(each, bytes) else each.task in tasks)
        ]


def _short(task: str) -> bytes:
    """The id of a task in few bytes: most of them are the text of a UUID."""
    with suppress(ValueError):
        if str(found := UUID(task)) == task:
            return b"u" + found.bytes
    return b"t" + task.encode()


def _long(short: bytes) -> str:
    """The inverse of :func:`_short`."""
    return short[1:].decode() if short.startswith(b"t") else str(UUID(bytes=short[1:]))
