"""Reducers of the control plane: their commands, their changes and their effects.

A reducer folds the commands of one partition. It answers with values: changes of its state, which go to the changelog, and
effects, which other modules perform. Its time is log time, that of the present command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from kafka_exec.core.record.fields import from_json, shown
from kafka_exec.errors import Undecodable

#: The kind of a command that only moves the time, for reducers that wait while no other commands come.
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
        """The command in a record's value.

        Raises:
            Undecodable: the value is no command.
        """
        try:
            body = from_json(value)
        except ValueError:
            raise Undecodable("not-json", "the command is not JSON") from None
        if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
            raise Undecodable("no-kind", "the command is no object with a kind")
        return cls(body.pop("kind"), body)

    def get(self, name: str, *types: type) -> Any:
        """The value of a field of the command. A missing field counts as None.

        Raises:
            Undecodable: the value has none of these types.
        """
        found = self.body.get(name)
        if type(found) not in types:
            raise Undecodable("malformed", f"{self.kind:.100}: {name} must not be {shown(found)}")
        return found


@dataclass(frozen=True)
class Change:
    """The new state of an item, for the changelog; None removes the item."""

    key: str
    value: bytes | None


class Effect:
    """The description of something to do outside the reducer.

    Attributes:
        is_news: its records only tell of what is decided. They are published when that is durable, at most once; the records
            of all other effects are written with the decision, all or nothing.
    """

    is_news: ClassVar[bool] = False

    def failed(self, reason: str) -> Sequence[Effect]:
        """The effects to perform if this one cannot be performed; none by default."""
        return ()


Output = Change | Effect


class Reducer(Protocol):
    """A fold of the commands of one partition. Times are epoch seconds."""

    def restore(self, key: str, value: bytes | None) -> None:
        """Restores a record of the changelog. Records come in their order, and some of them twice."""

    def take(self, command: Command, now: float) -> Sequence[Output]:
        """Folds a command.

        Raises:
            Undecodable: the command is malformed, and has changed nothing.
        """

    def refused(self, command: Command, effects: Sequence[Effect], reason: str, now: float) -> Sequence[Output]:
        """The outputs after Kafka has refused a change that the command has made: they replace all that it had.

        Args:
            effects: the command's own.
        """

    def due(self, now: float) -> Sequence[Output]:
        """The outputs of all timers up to now."""

    @property
    def next_timer(self) -> float | None:
        """The time at which :meth:`due` has an output; None if there is no such time."""


class Reducers:
    """All reducers of one partition as one.

    The name of a reducer is before the dot of a command's kind, and before the colon of a changelog key.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Reducer]]) -> None:
        self._reducers = {name: make() for name, make in makers.items()}

    def restore(self, key: str, value: bytes | None) -> None:
        """Restores a record of the changelog; those of unknown reducers are skipped."""
        name, _, rest = key.partition(":")
        if name in self._reducers:
            self._reducers[name].restore(rest, value)

    def take(self, command: Command, now: float) -> list[Output]:
        """Folds a command. The caller must handle all timers that are :meth:`due` before it.

        Raises:
            Undecodable: no reducer knows the command.
        """
        if command.kind == TICK:
            return []
        name, reducer = self._of(command)
        return _named(name, reducer.take(command, now))

    def refused(self, command: Command, effects: Sequence[Effect], reason: str, now: float) -> list[Output]:
        """The outputs after Kafka has refused a change that the command has made, in place of these effects."""
        if command.kind == TICK:
            return []
        name, reducer = self._of(command)
        return _named(name, reducer.refused(command, effects, reason, now))

    def due(self, now: float) -> list[Output]:
        """The outputs of all timers up to now."""
        return [output for name, reducer in self._reducers.items() for output in _named(name, reducer.due(now))]

    @property
    def next_timer(self) -> float | None:
        """The time of the next timer; None if there is none."""
        timers = (reducer.next_timer for reducer in self._reducers.values())
        return min((timer for timer in timers if timer is not None), default=None)

    def _of(self, command: Command) -> tuple[str, Reducer]:
        name = command.kind.partition(".")[0]
        if name not in self._reducers:
            raise Undecodable("unknown-command", f"nobody knows the command {command.kind!r:.100}")
        return name, self._reducers[name]


def _named(name: str, outputs: Sequence[Output]) -> list[Output]:
    return [Change(f"{name}:{o.key}", o.value) if isinstance(o, Change) else o for o in outputs]
