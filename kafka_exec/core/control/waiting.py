"""WaitingReducer: the reducer that continues each suspended task once: after its last callback, or at its deadline.

A suspension has a correlation id, by which its callbacks name it. Commands (``id`` is the correlation id):

- ``wait.suspend`` {id, task, created, number, page, expected, deadline}: a task is suspended by its durable call ``number``.
  ``created`` tells tasks of one id apart: when it was first sent. ``page`` is the place, partition and offset, of the record
  with which it continues. ``expected`` is the number of distinct callbacks, or the list of their ids; 0: only the deadline
  continues it. ``deadline``: epoch seconds, or null.
- ``wait.callback`` {id, callback, data, reply}: a callback with an id of its own and a text as data. ``reply`` is the id
  under which its caller looks for the outcome, or null.
- ``wait.revoke`` {tasks}: tasks were revoked. Their messages come, and the workers, which know it too, end them as revoked.

A command may come twice, and a callback before its suspension: :mod:`~kafka_exec.core.control.wait_table` says what comes
of each.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka_exec.core.control.reducers import Change, Command, Output
from kafka_exec.core.control.wait_effects import BuryCallback, Continue, Refuse, Reply
from kafka_exec.core.control.wait_table import TABLE, WaitAct, WaitEvent, WaitOutcome, WaitPhase
from kafka_exec.core.durable.continuation import ANSWERED, FAILED, REFUSED, TIMED_OUT
from kafka_exec.core.record.fields import a_list, from_json, moment, optional, text, texts, whole
from kafka_exec.errors import Undecodable

#: The outcomes with which a suspension takes a callback.
_TAKEN = frozenset({WaitOutcome.COUNTED, WaitOutcome.CONTINUED})

#: The number of other tasks with one id that are remembered.
_PAST = 8

#: The callbacks of the many ids that have none. Nobody writes into it.
_NONE: dict[str, str] = {}


class Suspension(NamedTuple):
    """A task that waits for callbacks.

    Attributes:
        created: when the task was first sent, epoch seconds.
        got, expected: the number of callbacks that have come, and of those that it needs.
        deadline: epoch seconds; None: there is none.
    """

    correlation_id: str
    task: str
    created: float
    got: int
    expected: int
    deadline: float | None


#: A suspension as it is remembered: its task, when that was first sent, and the number of the durable call.
_Place = tuple[str, float, int]


@dataclass(slots=True)
class _Waiter:
    """A correlation id. There are many of them.

    Attributes:
        task, created, number, partition, offset: the suspension.
        expected: the number of callbacks, or, while it waits, their ids.
        until: the deadline of a suspension, or the time up to which the id is remembered; None: there is no deadline.
        got: the data of the callbacks, by their ids.
        past: the newest suspensions of other tasks that were answered or refused: task, created, number.
    """

    phase: WaitPhase = WaitPhase.UNKNOWN
    task: str = ""
    created: float = 0.0
    number: int = 0
    partition: int = 0
    offset: int = 0
    expected: int | frozenset[str] = 0
    until: float | None = None
    got: dict[str, str] = field(default_factory=lambda: _NONE)
    past: tuple[_Place, ...] = ()

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
    def place(self) -> _Place:
        return self.task, self.created, self.number

    def has_seen(self, other: _Waiter) -> bool:
        """True if a suspension is this one, or a past one, or an earlier one of such a task."""
        return any(
            (other.task, other.created) == (task, created) and other.number <= number
            for task, created, number in (self.place, *self.past)
        )

    def note(self, other: _Waiter) -> None:
        """Remembers a suspension as a past one."""
        others = [each for each in self.past if each[:2] != other.place[:2]]
        newest = max([other.place, *(each for each in self.past if each not in others)])
        self.past = (*others, newest)[-_PAST:]

    def head(self) -> list[Any]:
        expected = self.expected if isinstance(self.expected, int) else sorted(self.expected)
        suspension = [self.task, self.created, self.number, [*self.page], expected]
        return [self.phase.name, *suspension, self.until, self.past]


class WaitingReducer:
    """The suspensions of one partition.

    Args:
        early: a callback without a suspension is kept for so many seconds, and further ones of its id up to the same time.
        remembered: an id whose task was continued is remembered for so many seconds, to recognise copies.
    """

    def __init__(self, *, early: float, remembered: float) -> None:
        self._early = early
        self._remembered = remembered
        self._waiters: dict[str, _Waiter] = {}
        # Times at which an id may have an event. One that has another time by then is skipped.
        self._timers: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """The number of ids that are remembered."""
        return len(self._waiters)

    def suspensions(self) -> list[Suspension]:
        """The suspensions that wait."""
        return [
            Suspension(name, w.task, w.created, len(w.got), w.needs, w.until)
            for name, w in self._waiters.items()
            if w.phase is WaitPhase.WAITING
        ]

    def take(self, command: Command, now: float) -> list[Output]:
        verb = command.kind.partition(".")[2]
        try:
            if verb == "revoke":
                return self._revoke(frozenset(texts(command.body.get("tasks"))), now)
            name = text(command.body.get("id"))
            if verb == "suspend":
                return self._suspend(name, _suspension(command), now)
            if verb == "callback":
                callback, data = text(command.body.get("callback")), text(command.body.get("data"))
                return self._callback(name, callback, data, optional(command.body, "reply", text), now)
        except ValueError as error:
            raise Undecodable("malformed", f"{command.kind}: {error}") from None
        raise Undecodable("unknown-command", f"suspensions know no {verb!r:.100}")

    def _suspend(self, name: str, found: _Waiter, now: float) -> list[Output]:
        waiter = self._waiters.get(name) or _Waiter()
        event = _event_of_suspension(waiter, found)
        outputs = self._happens(name, event, now, suspension=found)
        for callback, data in waiter.got.items() if waiter.phase is WaitPhase.EARLY else ():
            outputs.append(_change(["callback", name, callback], None))
            outcome, further = self._call_back(name, callback, data, now)
            outputs += further
            if outcome not in _TAKEN:
                error = f"the suspension with the correlation id {name!r:.200} that came after it does not expect it"
                outputs.append(BuryCallback(name, callback, data, error))
        return outputs

    def _revoke(self, tasks: frozenset[str], now: float) -> list[Output]:
        found = [name for name, w in self._waiters.items() if w.phase is WaitPhase.WAITING and w.task in tasks]
        reason = "it was revoked"
        return [each for name in found for each in self._happens(name, WaitEvent.REVOKE, now, reason=reason)]

    def _callback(self, name: str, callback: str, data: str, reply: str | None, now: float) -> list[Output]:
        outcome, outputs = self._call_back(name, callback, data, now)
        if reply is None or outcome is None:
            return outputs
        waiter = self._waiters[name]
        got = waiter.needs if outcome is WaitOutcome.CONTINUED else len(waiter.got)
        return [*outputs, Reply(reply, outcome, got, waiter.needs)]

    def _call_back(self, name: str, callback: str, data: str, now: float) -> tuple[WaitOutcome | None, list[Output]]:
        waiter = self._waiters.get(name) or _Waiter()
        event = _event_of_callback(waiter, callback)
        outcome = TABLE[waiter.phase, event].outcome
        return outcome, self._happens(name, event, now, callback=callback, data=data)

    def _happens(
        self,
        name: str,
        event: WaitEvent,
        now: float,
        *,
        suspension: _Waiter | None = None,
        callback: Any = "",
        data: str = "",
        reason: str = "",
    ) -> list[Output]:
        """Lets an event happen to an id. Returns what follows from it."""
        waiter = self._waiters.get(name) or _Waiter()
        move = TABLE[waiter.phase, event]
        enters = move.phase is not waiter.phase
        outputs: list[Output] = []
        for act in move.acts:
            if act is WaitAct.WAIT and suspension is not None:
                suspension.past = waiter.past
                if waiter.task and waiter.place[:2] != suspension.place[:2]:
                    suspension.note(waiter)
                waiter = suspension
            elif act is WaitAct.KEEP:
                waiter.keep(callback, data)
                outputs.append(_change(["callback", name, callback], data))
            elif act is WaitAct.CONTINUE:
                answers = {**waiter.got, callback: data}
                outputs.append(Continue(waiter.task, waiter.number, waiter.page, ANSWERED, answers))
            elif act is WaitAct.TIME_OUT:
                outputs.append(Continue(waiter.task, waiter.number, waiter.page, TIMED_OUT, waiter.got))
            elif act is WaitAct.FAIL:
                outputs.append(Refuse(waiter.task, waiter.number, waiter.page, FAILED, reason))
            elif act is WaitAct.REFUSE and suspension is not None:
                reason = (
                    f"task {waiter.task} waits with the correlation id {name!r:.200} already: it must be another one"
                )
                outputs.append(Refuse(suspension.task, suspension.number, suspension.page, REFUSED, reason))
                waiter.note(suspension)
                outputs.append(_head(name, waiter))
            elif act is WaitAct.DROP:
                outputs += [_head(name, waiter), BuryCallback(name, callback, waiter.got.pop(callback), reason)]
            elif act is WaitAct.BURY:
                error = f"no task was suspended with the correlation id {name!r:.200} in time"
                outputs += [BuryCallback(name, each, kept, error) for each, kept in waiter.got.items()]
        return [*outputs, *self._enter(name, move.phase, waiter, now)] if enters else outputs

    def _enter(self, name: str, phase: WaitPhase, waiter: _Waiter, now: float) -> list[Output]:
        """Notes that an id has another phase."""
        outputs: list[Output] = []
        if phase is WaitPhase.EARLY:
            waiter.until = now + self._early
        elif phase is not WaitPhase.WAITING:
            outputs += [_change(["callback", name, each], None) for each in waiter.got]
            waiter.got, waiter.expected, waiter.until = _NONE, waiter.needs, now + self._remembered
        waiter.phase = phase
        if phase is WaitPhase.UNKNOWN:
            del self._waiters[name]
            waiter.until = None
        else:
            self._waiters[name] = waiter
        self._set_timer(name, waiter.until)
        return [*outputs, _head(name, waiter)]

    def _set_timer(self, name: str, until: float | None) -> None:
        if until is not None:
            heapq.heappush(self._timers, (until, name))
        if len(self._timers) > 1.5 * len(self._waiters):  # a deadline that is years away would stay that long
            self._timers = [(w.until, each) for each, w in self._waiters.items() if w.until is not None]
            heapq.heapify(self._timers)

    def refused(self, command: Command, reason: str, now: float) -> list[Output]:
        """The outputs after Kafka has refused to keep a suspension or a callback: it is too large.

        None follow if a later command has ended the wait meanwhile.
        """
        if command.kind.endswith("revoke"):
            return []  # it makes no item larger
        name, callback = command.get("id", str), command.body.get("callback")
        waiter = self._waiters.get(name) or _Waiter()
        if command.kind.endswith("callback"):
            is_kept = callback in waiter.got
        else:
            found = _suspension(command)
            is_kept = waiter.phase is WaitPhase.WAITING and waiter.place == found.place
        return self._happens(name, WaitEvent.TOO_LARGE, now, callback=callback, reason=reason) if is_kept else []

    def due(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        while self._timers and self._timers[0][0] <= now:
            until, name = heapq.heappop(self._timers)
            waiter = self._waiters.get(name)
            if waiter is not None and waiter.until == until:
                event = WaitEvent.DEADLINE if waiter.phase is WaitPhase.WAITING else WaitEvent.FORGET
                outputs += self._happens(name, event, now)
        return outputs

    @property
    def next_timer(self) -> float | None:
        return self._timers[0][0] if self._timers else None

    def restore(self, key: str, value: bytes | None) -> None:
        try:
            kind, name, *rest = texts(from_json(key))
            found = from_json(value)
            if kind == "head":
                self._restore_head(name, found)
            else:
                self._restore_callback(name, rest[0], found)
        except (ValueError, KeyError, IndexError) as error:
            raise Undecodable("malformed", f"an item of a suspension cannot be read: {error}") from None

    def _restore_head(self, name: str, found: Any) -> None:
        if found is None:
            self._waiters.pop(name, None)
            self._set_timer(name, None)
            return
        phase, task, created, number, page, expected, until, past = a_list(found)
        waiter = _waiter(WaitPhase[text(phase)], task, created, number, page, expected, until)
        waiter.past = tuple((text(t), moment(made), whole(n)) for t, made, n in map(a_list, a_list(past)))
        if name in self._waiters:  # after a compaction a callback may come before the head
            waiter.got = self._waiters[name].got
        self._waiters[name] = waiter
        self._set_timer(name, waiter.until)

    def _restore_callback(self, name: str, callback: str, data: Any) -> None:
        if data is not None:
            data = text(data)
            self._waiters.setdefault(name, _Waiter()).keep(callback, data)
        elif name in self._waiters:
            self._waiters[name].got.pop(callback, None)


def _event_of_suspension(waiter: _Waiter, found: _Waiter) -> WaitEvent:
    """The event that a suspension is in the present phase of its correlation id."""
    if waiter.has_seen(found):  # a repeated run tells it again
        return WaitEvent.AGAIN
    return WaitEvent.OTHER if waiter.phase is WaitPhase.WAITING else WaitEvent.SUSPEND


def _event_of_callback(waiter: _Waiter, callback: str) -> WaitEvent:
    """The event that a callback is in the present phase of its correlation id."""
    if waiter.phase in (WaitPhase.CONTINUED, WaitPhase.OVER) or callback in waiter.got:
        return WaitEvent.COPY
    if waiter.phase is not WaitPhase.WAITING:
        return WaitEvent.CALLBACK
    if waiter.needs == 0 or (not isinstance(waiter.expected, int) and callback not in waiter.expected):
        return WaitEvent.STRANGER
    return WaitEvent.LAST if len(waiter.got) + 1 >= waiter.needs else WaitEvent.CALLBACK


def _suspension(command: Command) -> _Waiter:
    body = command.body
    fields = (body.get(name) for name in ("task", "created", "number", "page", "expected", "deadline"))
    found = _waiter(WaitPhase.WAITING, *fields)
    if not found.task:
        raise ValueError("a suspension needs a task")
    return found


def _waiter(phase: WaitPhase, task: Any, created: Any, number: Any, page: Any, expected: Any, until: Any) -> _Waiter:
    """The suspension with these fields.

    Raises:
        ValueError: they are no fields of a suspension.
    """
    partition, offset = a_list(page)
    return _Waiter(
        phase,
        text(task),
        moment(created),
        whole(number),
        whole(partition),
        whole(offset),
        frozenset(texts(expected)) if isinstance(expected, list) else whole(expected),
        None if until is None else moment(until),
    )


def _head(name: str, waiter: _Waiter) -> Change:
    return _change(["head", name], None if waiter.phase is WaitPhase.UNKNOWN else waiter.head())


def _change(key: list[str], value: Any) -> Change:
    return Change(_dump(key), None if value is None else _dump(value).encode())


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
