"""What the reducers of the control plane take and give.

A reducer folds the commands of one partition. What it answers is data: changes of its state, which go to the changelog,
and effects, which somebody else performs. Time is log time: that of the command being taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kafka_exec.core.record.fields import from_json, shown
from kafka_exec.errors import Undecodable

#: The kind of a command that only tells the time, for reducers that wait in a quiet log.
TICK = "tick"


@dataclass(frozen=True)
class Command:
    """A record of the control topic: a JSON object with a ``kind``, which is a reducer's name, a dot and a verb."""

    kind: str
    body: Mapping[str, Any]

    def encode(self) -> bytes:
        """The record's value."""
        return json.dumps({"kind": self.kind, **self.body}, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, value: bytes | None) -> Command:
        """The command of a record's value.

        Raises:
            Undecodable: it is none.
        """
        try:
            body = from_json(value)
        except ValueError:
            raise Undecodable("not-json", "the command is not JSON") from None
        if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
            raise Undecodable("no-kind", "the command is no object with a kind")
        return cls(body.pop("kind"), body)

    def get(self, name: str, *types: type) -> Any:
        """A field of the command.

        Raises:
            Undecodable: it is of none of these types; a field that is not there is None.
        """
        found = self.body.get(name)
        if type(found) not in types:
            raise Undecodable("malformed", f"{self.kind:.100}: {name} must not be {shown(found)}")
        return found


@dataclass(frozen=True)
class Change:
    """An item's new state, for the changelog; None removes it."""

    key: str
    value: bytes | None


class Effect:
    """Something that is to be done in the world, named."""

    def failed(self, reason: str) -> Sequence[Effect]:
        """What is to be done instead, since this cannot be; nothing by default."""
        return ()


Output = Change | Effect


class Reducer(Protocol):
    """Folds the commands of one partition. Times are epoch seconds."""

    def restore(self, key: str, value: bytes | None) -> None:
        """Takes over a record of the changelog; in order, and some of them twice."""

    def take(self, command: Command, now: float) -> Sequence[Output]:
        """Folds a command.

        Raises:
            Undecodable: it is malformed, and has changed nothing.
        """

    def refused(self, command: Command, reason: str, now: float) -> Sequence[Output]:
        """What follows since a change that the command made cannot be stored."""

    def due(self, now: float) -> Sequence[Output]:
        """What follows from the time alone: all that waits for a time up to now."""

    @property
    def next_timer(self) -> float | None:
        """When :meth:`due` has something to answer; None: never, as things are."""


class Reducers:
    """All reducers of one partition as one: by the name before a command's dot, and before a changelog key's colon."""

    def __init__(self, makers: Mapping[str, Callable[[], Reducer]]) -> None:
        self._reducers = {name: make() for name, make in makers.items()}

    def restore(self, key: str, value: bytes | None) -> None:
        """Hands a record of the changelog to its reducer; those of reducers that are no more are passed over."""
        name, _, rest = key.partition(":")
        if name in self._reducers:
            self._reducers[name].restore(rest, value)

    def take(self, command: Command, now: float) -> list[Output]:
        """Folds a command, after all that was due before it.

        Raises:
            Undecodable: no reducer knows it.
        """
        if command.kind == TICK:
            return []
        name, reducer = self._of(command)
        return _named(name, reducer.take(command, now))

    def refused(self, command: Command, reason: str, now: float) -> list[Output]:
        """What follows since a change that the command made cannot be stored."""
        if command.kind == TICK:
            return []
        name, reducer = self._of(command)
        return _named(name, reducer.refused(command, reason, now))

    def due(self, now: float) -> list[Output]:
        """All that waits for a time up to now."""
        return [output for name, reducer in self._reducers.items() for output in _named(name, reducer.due(now))]

    @property
    def next_timer(self) -> float | None:
        """When something is due next."""
        timers = (reducer.next_timer for reducer in self._reducers.values())
        return min((timer for timer in timers if timer is not None), default=None)

    def _of(self, command: Command) -> tuple[str, Reducer]:
        name = command.kind.partition(".")[0]
        if name not in self._reducers:
            raise Undecodable("unknown-command", f"nobody knows the command {command.kind!r:.100}")
        return name, self._reducers[name]


def _named(name: str, outputs: Sequence[Output]) -> list[Output]:
    return [Change(f"{name}:{o.key}", o.value) if isinstance(o, Change) else o for o in outputs]
