"""Chords the dumb way: keeps all commands of a group and counts them anew each time."""

from __future__ import annotations

from typing import Any


class PlainChords:
    def __init__(self, unfinished: float, fired: float) -> None:
        self.unfinished = unfinished
        self.fired_for = fired
        self.commands: dict[str, list[dict[str, Any]]] = {}
        self.began: dict[str, float] = {}
        self.past: dict[str, tuple[float, set[str]]] = {}

    def take(self, command: dict[str, Any], now: float) -> list[str] | None:
        """The tasks whose parts the body gets, in order, if the command fires it."""
        self._expire(now)
        group = command["group"]
        if self._is_past(command):
            return None
        commands = self.commands.setdefault(group, [])
        self.began.setdefault(group, now)
        commands.append(command)
        sizes = [c["size"] for c in commands if c["kind"] == "chord.size"]
        added = {c["task"] for c in commands if c["kind"] == "chord.more"}
        parts: list[dict[str, Any]] = []
        for part in (c for c in commands if c["kind"] == "chord.part"):
            if not any((p["task"], p["index"]) == (part["task"], part["index"]) for p in parts):
                parts.append(part)
        # A task that is added does not complete a chord, it only makes it longer.
        if command["kind"] == "chord.more" or not sizes or len(parts) < sizes[-1] + len(added):
            return None
        if command["kind"] == "chord.part" and command not in parts:
            return None
        runs = {c["run"] for c in commands if c.get("run")}
        self.past[group] = (now + self.fired_for, self.past.get(group, (0, set()))[1] | runs)
        del self.commands[group], self.began[group]
        placed = sorted((p for p in parts if p["index"] is not None), key=lambda p: p["index"])
        return [p["task"] for p in (*placed, *(p for p in parts if p["index"] is None))]

    def _is_past(self, command: dict[str, Any]) -> bool:
        group = command["group"]
        if group not in self.past:
            return False
        run = command.get("run")
        return group not in self.commands if run is None else run in self.past[group][1]

    def _expire(self, now: float) -> None:
        for group in [g for g, began in self.began.items() if began + self.unfinished <= now]:
            del self.commands[group], self.began[group]
        for group in [g for g, (expires, _) in self.past.items() if expires <= now]:
            del self.past[group]
