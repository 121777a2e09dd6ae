"""A reducer of suspensions with its changelog, as its driver has them."""

from __future__ import annotations

import json
from typing import Any

from kafka_exec.core.control.reducers import Change, Command, Effect, Output
from kafka_exec.core.control.waiting import WaitingReducer

EARLY, REMEMBERED, DEADLINE = 60.0, 600.0, 50.0


def suspend(task: str = "t", number: int = 1, expected: Any = 1, **more: Any) -> Command:
    """The command of a suspension, with :data:`DEADLINE`. The offset of its page is its number."""
    body = {"id": "x", "created": 1.0, "page": [0, number], "deadline": DEADLINE, **more}
    return Command("wait.suspend", {**body, "task": task, "number": number, "expected": expected})


def call(callback: str = "", reply: str | None = "r", id: str = "x", data: str | None = None) -> Command:
    """The command of a callback."""
    data = f"data of {callback}" if data is None else data
    return Command("wait.callback", {"id": id, "callback": callback, "data": data, "reply": reply})


def ask(reply: str = "r") -> Command:
    """The command of a caller who asks again for the outcome of his callback."""
    return Command("wait.ask", {"id": "x", "reply": reply})


class Plane:
    """The reducer, and its changelog as compaction leaves it at every moment: only the last record of each key."""

    def __init__(self) -> None:
        self.waits = WaitingReducer(early=EARLY, remembered=REMEMBERED)
        self.log: dict[str, bytes | None] = {}
        self.now = 0.0

    def play(self, outputs: list[Output]) -> list[Any]:
        """Stores the changes. Returns the effects."""
        for key, value in {each.key: each.value for each in outputs if isinstance(each, Change)}.items():
            self.log.pop(key, None)
            self.log[key] = value
        return [each for each in outputs if not isinstance(each, Change)]

    def take(self, command: Command) -> list[Any]:
        return self.play(self.waits.due(self.now)) + self.play(self.waits.take(command, self.now))

    def wait(self, seconds: float) -> list[Any]:
        self.now += seconds
        return self.play(self.waits.due(self.now))

    def refuse(self, command: Command) -> list[Any]:
        """Takes a command whose changes Kafka refuses."""
        effects = [each for each in self.waits.take(command, self.now) if isinstance(each, Effect)]
        return self.play(self.waits.refused(command, effects, "too large", self.now))

    def restart(self) -> None:
        """A new owner, which knows only the changelog, and may read records that it knows."""
        self.waits = WaitingReducer(early=EARLY, remembered=REMEMBERED)
        for _ in range(2):
            for key, value in self.log.items():
                self.waits.restore(key, value)

    @property
    def kept(self) -> dict[tuple[str, ...], Any]:
        """The items of ids that are stored: the phase of each, and the data of each callback."""
        items = {tuple(json.loads(key)): json.loads(value) for key, value in self.log.items() if value is not None}
        return {key: value[0] if key[0] == "head" else value for key, value in items.items() if key[0] != "reply"}
