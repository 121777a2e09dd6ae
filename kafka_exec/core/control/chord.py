"""ChordReducer: the reducer counts the parts of a group, and the last part fires the body, exactly once.

Commands (``group`` is the group's id):

- ``chord.part`` {group, task, index, ok, payload, body, run}: a header task has ended. ``index`` is its place in the
  header, or null; tasks of a nested group, and added tasks, share a place with others. ``payload`` is the part of its
  result that the effect needs, ``body`` the chord's body, which is stored once.
- ``chord.size`` {group, size, header, body, run}: the number of parts. It may come before, between or after the parts.
- ``chord.more`` {group, task}: a task was added to the header: one part more.

A group id is used again when a frozen chord is applied again. ``run`` (a text) tells such runs apart. A ``size`` has a run.
A ``part`` may have none: then it belongs to the open run; if none is open and the group has fired, it changes nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka_exec.core.control.reducers import Change, Command, Effect, Output
from kafka_exec.core.control.timers import Timers
from kafka_exec.core.record.fields import MOST, a_list, flag, from_json, moment, text, texts, whole
from kafka_exec.errors import Undecodable

#: The number of fired runs of one group id that are remembered.
_RUNS = 8

_TEXT_OR_NONE = (str, type(None))


@dataclass(frozen=True, slots=True)
class Part:
    """The end of a header task."""

    task: str
    index: int | None
    ok: bool
    payload: Any


@dataclass(frozen=True)
class FailChord(Effect):
    """The effect that a chord's body fails with this reason."""

    group: str
    body: Any
    header: Any
    parts: tuple[Part, ...]
    reason: str


@dataclass(frozen=True)
class Fire(Effect):
    """The effect that a chord's body runs on these parts, which have the header's order."""

    group: str
    body: Any
    header: Any
    parts: tuple[Part, ...]

    def failed(self, reason: str) -> Sequence[Effect]:
        return (FailChord(self.group, self.body, self.header, self.parts, reason),)


@dataclass
class _Chord:
    """A group that has not fired.

    Attributes:
        parts: the parts by task and place, since a frozen task may be at several places of a header.
        more: the tasks that were added to the header.
    """

    expires: float
    size: int | None = None
    header: Any = None
    body: Any = None
    runs: list[str] = field(default_factory=list)
    parts: dict[tuple[str, int | None], Part] = field(default_factory=dict)
    more: set[str] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        return self.size is not None and len(self.parts) >= self.size + len(self.more)

    def count(self, part: Part) -> bool:
        """Counts a part. Returns False if it was counted before."""
        if (part.task, part.index) in self.parts:
            return False
        self.parts[part.task, part.index] = part
        return True

    def ordered(self) -> tuple[Part, ...]:
        """The parts in the header's order; those without a place follow in the order in which they came."""
        return tuple(sorted(self.parts.values(), key=lambda part: (part.index is None, part.index or 0)))


class _Fired(NamedTuple):
    """The memory of a group that has fired, so that late copies of its commands change nothing."""

    expires: float
    runs: list[str]


class ChordReducer:
    """The chords of one partition.

    Args:
        unfinished: an incomplete group is forgotten after so many seconds.
        fired: copies of the commands of a fired group are recognised for so many seconds.
    """

    def __init__(self, *, unfinished: float, fired: float) -> None:
        self._unfinished = unfinished
        self._fired_for = fired
        self._open: dict[str, _Chord] = {}
        self._fired: dict[str, _Fired] = {}
        self._timers = Timers(self._times_of)

    def __len__(self) -> int:
        """The number of open groups."""
        return len(self._open)

    def take(self, command: Command, now: float) -> list[Output]:
        verb = command.kind.partition(".")[2]
        group = command.get("group", str)
        if verb == "part":
            part = Part(
                command.get("task", str),
                command.get("index", int, type(None)),
                command.get("ok", bool),
                command.body.get("payload"),
            )
            return self._part(group, part, command.body.get("body"), command.get("run", *_TEXT_OR_NONE), now)
        if verb == "size":
            size, run = command.get("size", int), command.get("run", str)
            return self._size(group, size, command.body.get("header"), command.body.get("body"), run, now)
        if verb == "more":
            return self._more(group, command.get("task", str), now)
        raise Undecodable("unknown-command", f"chords know no {verb!r:.100}")

    def _part(self, group: str, part: Part, body: Any, run: str | None, now: float) -> list[Output]:
        if self._is_past(group, run):
            return []
        news = group not in self._open
        chord = self._chord(group, now)
        if chord.body is None and body is not None:
            chord.body = body
            news = True
        if run is not None and run not in chord.runs:
            chord.runs.append(run)
            news = True
        if not chord.count(part):
            return [_head(group, chord)] if news else []
        if chord.complete:
            return self._fire(group, chord, now)
        stored = _change(_key(group, part), [part.ok, part.payload])
        return [_head(group, chord), stored] if news else [stored]

    def _size(self, group: str, size: int, header: Any, body: Any, run: str, now: float) -> list[Output]:
        fired = self._fired.get(group)
        if fired is not None and run in fired.runs:
            return []
        chord = self._chord(group, now)
        if run not in chord.runs:
            chord.runs.append(run)
        chord.size, chord.header = size, header
        chord.body = chord.body if body is None else body
        return self._fire(group, chord, now) if chord.complete else [_head(group, chord)]

    def _more(self, group: str, task: str, now: float) -> list[Output]:
        if self._is_past(group, None):
            return []
        known = group in self._open
        chord = self._chord(group, now)
        if task in chord.more:
            return []
        chord.more.add(task)
        stored = _change(["more", group, task], True)
        return [stored] if known else [_head(group, chord), stored]

    def _is_past(self, group: str, run: str | None) -> bool:
        fired = self._fired.get(group)
        if fired is None:
            return False
        return group not in self._open if run is None else run in fired.runs

    def _chord(self, group: str, now: float) -> _Chord:
        chord = self._open.get(group)
        if chord is None:
            chord = self._open[group] = _Chord(now + self._unfinished)
            self._timers.set(chord.expires, group)
        return chord

    def _fire(self, group: str, chord: _Chord, now: float) -> list[Output]:
        effect = Fire(group, chord.body, chord.header, chord.ordered())
        return [*self._end(group, chord, now), effect]

    def _end(self, group: str, chord: _Chord, now: float) -> list[Output]:
        """Removes an open group, and remembers that it has fired."""
        before = self._fired[group].runs if group in self._fired else []
        fired = self._fired[group] = _Fired(now + self._fired_for, [*before, *chord.runs][-_RUNS:])
        self._timers.set(fired.expires, group)
        return [*self._forget(group, chord), _change(["fired", group], fired)]

    def _forget(self, group: str, chord: _Chord) -> list[Output]:
        del self._open[group]
        keys: list[list[Any]] = [["head", group], *(_key(group, part) for part in chord.parts.values())]
        return [_change(key, None) for key in (*keys, *(["more", group, task] for task in chord.more))]

    def refused(self, command: Command, effects: Sequence[Effect], reason: str, now: float) -> list[Output]:
        group = command.get("group", str)
        chord = self._open.get(group)
        if chord is None:
            return []
        effect = FailChord(group, chord.body, chord.header, chord.ordered(), reason)
        return [*self._end(group, chord, now), effect]

    def _times_of(self, group: str) -> list[float]:
        return [each.expires for each in (self._open.get(group), self._fired.get(group)) if each is not None]

    def due(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for _, group in self._timers.due(now):
            if (chord := self._open.get(group)) is not None and chord.expires <= now:
                outputs += self._forget(group, chord)
            if (fired := self._fired.get(group)) is not None and fired.expires <= now:
                del self._fired[group]
                outputs.append(_change(["fired", group], None))
        return outputs

    @property
    def next_timer(self) -> float | None:
        return self._timers.next

    def restore(self, key: str, value: bytes | None) -> None:
        try:
            kind, group, *rest = a_list(from_json(key))
            found = from_json(value)
            if text(kind) == "fired":
                self._restore_fired(text(group), found)
            elif kind == "head":
                self._restore_head(text(group), found)
            else:
                self._restore_item(text(group), rest, found)
        except ValueError as error:
            raise Undecodable("malformed", f"an item of a chord cannot be read: {error}") from None

    def _restore_item(self, group: str, item: list[Any], found: Any) -> None:
        """Restores an item of a group: one element is an added task, two are a part."""
        task, *place = item
        text(task)
        part = None
        if place:
            index = None if place[0] is None else whole(place[0], least=-MOST)
            if found is not None:
                ok, payload = a_list(found)
                part = Part(task, index, flag(ok), payload)
        chord = self._open.get(group)
        if chord is None:
            if found is None:
                return
            chord = self._open[group] = _Chord(math.inf)  # after a compaction the head comes later than the item
        if not place:
            (chord.more.discard if found is None else chord.more.add)(task)
        elif part is None:
            chord.parts.pop((task, index), None)
        else:
            chord.parts[task, index] = part

    def _restore_fired(self, group: str, found: list[Any] | None) -> None:
        if found is None:
            self._fired.pop(group, None)
        else:
            expires, runs = a_list(found)
            self._fired[group] = _Fired(moment(expires), list(texts(runs)))
            self._timers.set(expires, group)

    def _restore_head(self, group: str, found: list[Any] | None) -> None:
        if found is None:
            self._open.pop(group, None)
            return
        expires, size, header, body, runs = a_list(found)
        moment(expires)
        if size is not None:
            whole(size, least=-MOST)
        chord = self._open.get(group)
        if chord is None:
            chord = self._open[group] = _Chord(math.inf)
        if chord.expires != expires:
            chord.expires = expires
            self._timers.set(expires, group)
        chord.size, chord.header, chord.body, chord.runs = size, header, body, list(texts(runs))


def _key(group: str, part: Part) -> list[Any]:
    return ["part", group, part.task, part.index]


def _head(group: str, chord: _Chord) -> Change:
    return _change(["head", group], [chord.expires, chord.size, chord.header, chord.body, chord.runs])


def _change(key: list[Any], value: Any) -> Change:
    return Change(_dump(key), None if value is None else _dump(value).encode())


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
