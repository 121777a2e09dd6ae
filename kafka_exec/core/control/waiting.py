"""WaitingReducer: the reducer that continues each suspended task once: after its last callback, or at its deadline.

A suspension has a correlation id, by which its callbacks name it. Commands (``id`` is the correlation id):

- ``wait.suspend`` {id, task, created, number, page, expected, deadline}: a task is suspended by its durable call ``number``.
  ``created`` tells tasks of one id apart: when it was first sent. ``page`` is the place, partition and offset, of the record
  with which it continues. ``expected`` is the number of distinct callbacks, or the list of their ids; 0: only the deadline
  continues it. ``deadline``: epoch seconds, or null.
- ``wait.callback`` {id, callback, data, reply}: a callback with an id of its own and a text as data. ``reply`` is the id
  under which its caller looks for the outcome, or null.

A command may come twice, and a callback before its suspension: :mod:`~kafka_exec.core.control.wait_table` says what comes
of each.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kafka_exec.core.control.reducers import Change, Command, Effect, Output
from kafka_exec.core.control.wait_table import TABLE, WaitAct, WaitEvent, WaitOutcome, WaitPhase
from kafka_exec.core.durable.continuation import ANSWERED, TIMED_OUT
from kafka_exec.core.record.fields import a_list, from_json, moment, text, texts, whole
from kafka_exec.errors import Undecodable

_NONE = type(None)


@dataclass(frozen=True)
class Refuse(Effect):
    """The effect that a suspended task continues with an error. ``page``: as in :class:`Continue`."""

    task: str
    number: int
    page: tuple[int, int]
    reason: str


@dataclass(frozen=True)
class Continue(Effect):
    """The effect that a suspended task continues.

    Attributes:
        number: the number of the durable call that is answered.
        page: the partition and the offset of the record with its message.
        outcome: ``answered`` or ``timed-out``.
        answers: the data of the callbacks, by their ids.
    """

    task: str
    number: int
    page: tuple[int, int]
    outcome: str
    answers: Mapping[str, str]

    def failed(self, reason: str) -> Sequence[Effect]:
        return (Refuse(self.task, self.number, self.page, reason),)


@dataclass(frozen=True)
class Reply(Effect):
    """The effect that the caller of a callback learns its outcome: ``got`` of ``expected`` callbacks have come."""

    reply: str
    outcome: WaitOutcome
    got: int
    expected: int


@dataclass(frozen=True)
class BuryCallback(Effect):
    """The effect that a callback becomes a dead letter: no task was suspended with its correlation id."""

    id: str
    callback: str
    data: str


@dataclass
class _Waiter:
    """A correlation id.

    Attributes:
        task, created, number: the suspension.
        expected: the number of callbacks, or their ids.
        until: the deadline of a suspension, or the time up to which the id is remembered; None: there is no deadline.
        got: the data of the callbacks, by their ids.
    """

    phase: WaitPhase = WaitPhase.UNKNOWN
    task: str = ""
    created: float = 0.0
    number: int = 0
    page: tuple[int, int] = (0, 0)
    expected: int | tuple[str, ...] = 1
    until: float | None = None
    got: dict[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> int:
        return self.expected if isinstance(self.expected, int) else len(self.expected)

    def has_seen(self, other: _Waiter) -> bool:
        """True if a suspension is this one, or an earlier one of the same task: a repeated run tells it again."""
        return (self.task, self.created) == (other.task, other.created) and other.number <= self.number

    def head(self) -> list[Any]:
        expected = self.expected if isinstance(self.expected, int) else list(self.expected)
        return [self.phase.name, self.task, self.created, self.number, list(self.page), expected, self.until]


class WaitingReducer:
    """The suspensions of one partition.

    Args:
        early: a callback without a suspension is kept for so many seconds.
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

    def take(self, command: Command, now: float) -> list[Output]:
        verb, name = command.kind.partition(".")[2], command.get("id", str)
        try:
            if verb == "suspend":
                return self._suspend(name, _suspension(command), now)
            if verb == "callback":
                callback, data = text(command.body.get("callback")), text(command.body.get("data"))
                return self._callback(name, callback, data, command.get("reply", str, _NONE), now)
        except ValueError as error:
            raise Undecodable("malformed", f"{command.kind}: {error}") from None
        raise Undecodable("unknown-command", f"suspensions know no {verb!r:.100}")

    def _suspend(self, name: str, found: _Waiter, now: float) -> list[Output]:
        waiter = self._waiters.get(name, _Waiter())
        if waiter.has_seen(found):
            event = WaitEvent.AGAIN
        else:
            event = WaitEvent.OTHER if waiter.phase is WaitPhase.WAITING else WaitEvent.SUSPEND
        early = waiter.got if waiter.phase is WaitPhase.EARLY else {}
        outputs = self._happens(name, event, now, suspension=found)
        if WaitAct.WAIT in TABLE[waiter.phase, event].acts:
            outputs += [_change(["callback", name, each], None) for each in early]
            for callback, data in early.items():
                outputs += self._callback(name, callback, data, None, now)
        return outputs

    def _callback(self, name: str, callback: str, data: str, reply: str | None, now: float) -> list[Output]:
        waiter = self._waiters.get(name, _Waiter())
        event = _event_of(waiter, callback)
        needs = waiter.needs if waiter.task else 0
        outputs = self._happens(name, event, now, callback=callback, data=data)
        outcome = TABLE[waiter.phase, event].outcome
        if reply is None or outcome is None:
            return outputs
        got = len(waiter.got) + (outcome in (WaitOutcome.CONTINUED, WaitOutcome.COUNTED, WaitOutcome.KEPT))
        return [*outputs, Reply(reply, outcome, needs if outcome is WaitOutcome.CONTINUED else got, needs)]

    def _happens(
        self,
        name: str,
        event: WaitEvent,
        now: float,
        *,
        suspension: _Waiter | None = None,
        callback: str = "",
        data: str = "",
    ) -> list[Output]:
        """Lets an event happen to an id. Returns what follows from it."""
        before = self._waiters.get(name, _Waiter())
        move = TABLE[before.phase, event]
        after = replace(before, phase=move.phase)
        outputs: list[Output] = []
        for act in move.acts:
            if act is WaitAct.WAIT and suspension is not None:
                after = suspension
            elif act is WaitAct.KEEP:
                after.got = {**after.got, callback: data}
                outputs.append(_change(["callback", name, callback], data))
            elif act is WaitAct.CONTINUE:
                outputs.append(Continue(before.task, before.number, before.page, ANSWERED, after.got))
            elif act is WaitAct.TIME_OUT:
                outputs.append(Continue(before.task, before.number, before.page, TIMED_OUT, after.got))
            elif act is WaitAct.REFUSE and suspension is not None:
                reason = (
                    f"task {before.task} waits with the correlation id {name!r:.200} already: it must be another one"
                )
                outputs.append(Refuse(suspension.task, suspension.number, suspension.page, reason))
            elif act is WaitAct.BURY:
                outputs += [BuryCallback(name, each, kept) for each, kept in before.got.items()]
        if move.phase is before.phase and not move.acts:
            return outputs
        if move.phase in (WaitPhase.CONTINUED, WaitPhase.OVER, WaitPhase.UNKNOWN):
            outputs = [output for output in outputs if not isinstance(output, Change)]  # it is removed at once
            outputs += [_change(["callback", name, each], None) for each in before.got]
            after.got, after.until = {}, now + self._remembered
        elif move.phase is WaitPhase.EARLY and before.phase is not WaitPhase.EARLY:
            after.until = now + self._early
        return [*outputs, *self._keep(name, before, after)]

    def _keep(self, name: str, before: _Waiter, after: _Waiter) -> list[Output]:
        if after.phase is WaitPhase.UNKNOWN:
            self._waiters.pop(name, None)
            return [_change(["head", name], None)]
        self._waiters[name] = after
        if after.head() == before.head():
            return []
        if after.until is not None and after.until != before.until:
            heapq.heappush(self._timers, (after.until, name))
        return [_change(["head", name], after.head())]

    def refused(self, command: Command, reason: str, now: float) -> list[Output]:
        """The outputs after Kafka has refused to keep a callback or a suspension: it is too large.

        A suspension's task continues with an error. A callback is dropped, and its caller learns nothing: its command is
        larger than the changelog takes, which only another limit of that topic can cause.
        """
        if command.kind.partition(".")[2] != "suspend":
            return []
        found = _suspension(command)
        return [Refuse(found.task, found.number, found.page, reason)]

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
            return
        phase, task, created, number, page, expected, until = a_list(found)
        partition, offset = a_list(page)
        waiter = self._waiters.setdefault(name, _Waiter())  # after a compaction a callback may come before the head
        waiter.phase, waiter.task, waiter.created, waiter.number = (
            WaitPhase[phase],
            task,
            moment(created),
            whole(number),
        )
        waiter.page = (whole(partition), whole(offset))
        waiter.expected = _expected(expected)
        waiter.until = None if until is None else moment(until)
        if waiter.until is not None:
            heapq.heappush(self._timers, (waiter.until, name))

    def _restore_callback(self, name: str, callback: str, data: Any) -> None:
        if data is not None:
            self._waiters.setdefault(name, _Waiter()).got[callback] = text(data)
        elif name in self._waiters:
            self._waiters[name].got.pop(callback, None)


def _event_of(waiter: _Waiter, callback: str) -> WaitEvent:
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
    partition, offset = a_list(body.get("page"))
    deadline = body.get("deadline")
    return _Waiter(
        WaitPhase.WAITING,
        text(body.get("task")),
        moment(body.get("created")),
        whole(body.get("number")),
        (whole(partition), whole(offset)),
        _expected(body.get("expected")),
        None if deadline is None else moment(deadline),
    )


def _expected(value: Any) -> int | tuple[str, ...]:
    return tuple(dict.fromkeys(texts(value))) if isinstance(value, list) else whole(value)


def _change(key: list[str], value: Any) -> Change:
    return Change(_dump(key), None if value is None else _dump(value).encode())


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
