"""WaitingReducer: the reducer that continues each suspended task once: after its last callback, or at its deadline.

A suspension has a correlation id, by which its callbacks name it. Commands (``id`` is the correlation id):

- ``wait.suspend`` {id, task, created, number, page, expected, deadline, watched, tells}: a task is suspended by its durable
  call ``number``. ``created`` tells tasks of one id apart: when it was first sent. ``page`` is the place, partition and
  offset, of the record with which it continues. ``expected`` is the number of distinct callbacks, or the list of their ids;
  0: only the deadline continues it. ``deadline``: epoch seconds, or null. ``watched``: those of the ids that are tasks whose
  messages do not name the suspension, so that their ends must be looked for. ``tells``: the task's state tells which
  callbacks have come.
- ``wait.callback`` {id, callback, data, reply}: a callback with an id of its own and a text as data. ``reply`` is the id
  under which its caller looks for the outcome, or null.
- ``wait.ask`` {id, reply}: a caller has not got the outcome of his callback, which comes before this, and asks again.
- ``wait.revoke`` {tasks}: tasks were revoked. Their messages come, and the workers, which know it too, end them as revoked.

A command may come twice, and a callback before its suspension: :mod:`~kafka_exec.core.control.wait_table` says what comes
of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka_exec.core.control.outcomes import Outcomes
from kafka_exec.core.control.reducers import Change, Command, Effect, Output
from kafka_exec.core.control.timers import Timers
from kafka_exec.core.control.wait_effects import BuryCallback, Continue, Refuse, Reply, TellProgress, Unwatch, Watch
from kafka_exec.core.control.wait_table import TABLE, WaitAct, WaitEvent, WaitOutcome, WaitPhase
from kafka_exec.core.control.waiters import NONE, Waiter, Waiters
from kafka_exec.core.durable.continuation import ANSWERED, FAILED, REFUSED, TIMED_OUT
from kafka_exec.core.record.fields import LONGEST_ID, from_json, optional, text, texts
from kafka_exec.errors import Undecodable

#: The outcomes with which a suspension takes a callback.
_TAKEN = frozenset({WaitOutcome.COUNTED, WaitOutcome.CONTINUED})


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


class WaitingReducer:
    """The suspensions of one partition.

    Args:
        early: a callback without a suspension is kept for so many seconds, and further ones of its id up to the same time.
        remembered: an id whose task was continued is remembered for so many seconds, to recognise copies.
    """

    def __init__(self, *, early: float, remembered: float) -> None:
        self._early = early
        self._remembered = remembered
        self._waiters = Waiters()
        self._timers = Timers(self._times_of)
        self._outcomes = Outcomes()
        # The ids whose watched tasks nobody has looked for since their restoring.
        self._restored: set[str] = set()

    def __len__(self) -> int:
        """The number of ids that are remembered."""
        return len(self._waiters)

    def suspensions(self) -> list[Suspension]:
        """The suspensions that wait."""
        waiters = ((name, self._waiters.get(name)) for name in self._waiters)
        return [
            Suspension(name, w.task, w.created, len(w.got), w.needs, w.until)
            for name, w in waiters
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
            if verb == "ask":
                outcome = self._outcomes.of(_reply(command.body.get("reply")))
                return [] if outcome is None else [outcome]
            if verb == "callback":
                callback, data = text(command.body.get("callback")), text(command.body.get("data"))
                return self._callback(name, callback, data, optional(command.body, "reply", _reply), now)
        except ValueError as error:
            raise Undecodable("malformed", f"{command.kind}: {error}") from None
        raise Undecodable("unknown-command", f"suspensions know no {verb!r:.100}")

    def _suspend(self, name: str, found: Waiter, now: float) -> list[Output]:
        waiter = self._waiters.get(name)
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
        found = [n for n in self._waiters.of_tasks(tasks) if self._waiters.get(n).phase is WaitPhase.WAITING]
        reason = "it was revoked"
        return [each for name in found for each in self._happens(name, WaitEvent.REVOKE, now, reason=reason)]

    def _callback(self, name: str, callback: str, data: str, reply: str | None, now: float) -> list[Output]:
        outcome, outputs = self._call_back(name, callback, data, now)
        if reply is None or outcome is None:
            return outputs
        waiter = self._waiters.get(name)
        got = waiter.needs if outcome is WaitOutcome.CONTINUED else len(waiter.got)
        found = Reply(reply, outcome, got, waiter.needs)
        return [*outputs, _change(["reply", reply], self._outcomes.note(found, now)), found]

    def _call_back(self, name: str, callback: str, data: str, now: float) -> tuple[WaitOutcome | None, list[Output]]:
        waiter = self._waiters.get(name)
        event = _event_of_callback(waiter, callback)
        outcome = TABLE[waiter.phase, event].outcome
        return outcome, self._happens(name, event, now, callback=callback, data=data)

    def _happens(
        self,
        name: str,
        event: WaitEvent,
        now: float,
        *,
        suspension: Waiter | None = None,
        callback: Any = "",
        data: str = "",
        reason: str = "",
    ) -> list[Output]:
        """Lets an event happen to an id. Returns what follows from it."""
        waiter = self._waiters.get(name)
        move = TABLE[waiter.phase, event]
        enters = move.phase is not waiter.phase
        outputs: list[Output] = []
        for act in move.acts:
            if act is WaitAct.WAIT and suspension is not None:
                suspension.past = waiter.past
                if waiter.task and waiter.place[:2] != suspension.place[:2]:
                    suspension.note(waiter)
                waiter = suspension
                outputs += _watch(name, waiter)
            elif act is WaitAct.KEEP:
                waiter.keep(callback, data)
                outputs.append(_change(["callback", name, callback], data))
            elif act is WaitAct.TELL and waiter.tells and waiter.got:
                outputs.append(TellProgress(waiter.task, waiter.page, tuple(waiter.got)))
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
        if enters:
            return [*outputs, *self._enter(name, move.phase, waiter, now)]
        self._waiters.put(name, waiter)
        return outputs

    def _enter(self, name: str, phase: WaitPhase, waiter: Waiter, now: float) -> list[Output]:
        """Notes that an id has another phase."""
        outputs: list[Output] = []
        if phase is WaitPhase.EARLY:
            waiter.until = now + self._early
        elif phase is not WaitPhase.WAITING:
            outputs += [_change(["callback", name, each], None) for each in waiter.got]
            outputs += [Unwatch(name, waiter.watched)] if waiter.watched else []
            waiter.got, waiter.watched, waiter.expected = NONE, (), waiter.needs
            waiter.until = now + self._remembered
        waiter.phase = phase
        if phase is WaitPhase.UNKNOWN:
            waiter.until = None
        self._waiters.put(name, waiter)
        self._set_timer(name, waiter.until)
        return [*outputs, _head(name, waiter)]

    def _set_timer(self, name: str, until: float | None) -> None:
        if until is not None:
            self._timers.set(until, name)
        if len(self._timers) > 1.5 * len(self._waiters):  # a deadline that is years away would stay that long
            self._timers.keep(self._waiters)

    def _times_of(self, name: str) -> tuple[float, ...]:
        until = self._waiters.get(name).until
        return () if until is None else (until,)

    def refused(self, command: Command, effects: Sequence[Effect], reason: str, now: float) -> list[Output]:
        """The outputs after Kafka has refused to keep a suspension or a callback: it is too large.

        Early callbacks that the suspension does not expect become dead letters all the same, and a second task is refused.
        Nothing else follows if a later command has ended the wait meanwhile.
        """
        if command.kind.endswith("revoke"):
            return []  # it makes no item larger
        name, callback = command.get("id", str), command.body.get("callback")
        buried = [effect.callback for effect in effects if isinstance(effect, BuryCallback)]
        outputs: list[Output] = [_change(["callback", name, each], None) for each in buried]
        outputs += [effect for effect in effects if isinstance(effect, (BuryCallback, Refuse))]
        waiter = self._waiters.get(name)
        if command.kind.endswith("callback"):
            self._outcomes.forget(command.get("reply", str, type(None)) or "")
            is_kept = callback in waiter.got
        else:
            found = _suspension(command)
            is_kept = waiter.phase is WaitPhase.WAITING and waiter.place == found.place
        if is_kept:
            outputs += self._happens(name, WaitEvent.TOO_LARGE, now, callback=callback, reason=reason)
        return outputs

    def due(self, now: float) -> list[Output]:
        restored, self._restored = self._restored, set()
        outputs = [each for name in restored for each in _watch(name, self._waiters.get(name))]
        for until, name in self._timers.due(now):
            waiter = self._waiters.get(name)
            if waiter.until == until:
                event = WaitEvent.DEADLINE if waiter.phase is WaitPhase.WAITING else WaitEvent.FORGET
                outputs += self._happens(name, event, now)
        return outputs + [_change(["reply", id], None) for id in self._outcomes.due(now)]

    @property
    def next_timer(self) -> float | None:
        timers = (0.0 if self._restored else None, self._timers.next, self._outcomes.next_timer)
        return min((timer for timer in timers if timer is not None), default=None)

    def restore(self, key: str, value: bytes | None) -> None:
        try:
            kind, name, *rest = texts(from_json(key))
            found = from_json(value)
            if kind == "head":
                self._restore_head(name, found)
            elif kind == "reply":
                self._outcomes.restore(name, found)
            else:
                self._restore_callback(name, rest[0], found)
        except (ValueError, KeyError, IndexError) as error:
            raise Undecodable("malformed", f"an item of a suspension cannot be read: {error}") from None

    def _restore_head(self, name: str, found: Any) -> None:
        if found is None:
            self._waiters.forget(name)
            self._set_timer(name, None)
            return
        waiter = Waiter.of_head(found)
        waiter.got = self._waiters.get(name).got  # after a compaction a callback may come before the head
        self._waiters.put(name, waiter)
        self._set_timer(name, waiter.until)
        if waiter.watched:
            self._restored.add(name)

    def _restore_callback(self, name: str, callback: str, data: Any) -> None:
        waiter = self._waiters.get(name)
        if data is not None:
            waiter.keep(callback, text(data))
        else:
            waiter.got.pop(callback, None)
        self._waiters.put(name, waiter)


def _event_of_suspension(waiter: Waiter, found: Waiter) -> WaitEvent:
    """The event that a suspension is in the present phase of its correlation id."""
    if waiter.has_seen(found):  # a repeated run tells it again
        return WaitEvent.AGAIN
    return WaitEvent.OTHER if waiter.phase is WaitPhase.WAITING else WaitEvent.SUSPEND


def _event_of_callback(waiter: Waiter, callback: str) -> WaitEvent:
    """The event that a callback is in the present phase of its correlation id."""
    if waiter.phase in (WaitPhase.CONTINUED, WaitPhase.OVER) or callback in waiter.got:
        return WaitEvent.COPY
    if waiter.phase is not WaitPhase.WAITING:
        return WaitEvent.CALLBACK
    if waiter.needs == 0 or (not isinstance(waiter.expected, int) and callback not in waiter.expected):
        return WaitEvent.STRANGER
    return WaitEvent.LAST if len(waiter.got) + 1 >= waiter.needs else WaitEvent.CALLBACK


def _suspension(command: Command) -> Waiter:
    names = ("task", "created", "number", "page", "expected", "deadline")
    fields = [command.body.get(name) for name in names]
    found = Waiter.of_head(
        [WaitPhase.WAITING.name, *fields, [], command.body.get("watched") or [], command.body.get("tells") or False]
    )
    if not found.task:
        raise ValueError("a suspension needs a task")
    return found


def _reply(found: Any) -> str:
    if len(id := text(found)) > LONGEST_ID:
        raise ValueError("the id of an answer is too long")
    return id


def _watch(name: str, waiter: Waiter) -> list[Output]:
    return [Watch(name, waiter.watched)] if waiter.watched else []


def _head(name: str, waiter: Waiter) -> Change:
    return _change(["head", name], None if waiter.phase is WaitPhase.UNKNOWN else waiter.head())


def _change(key: list[str], value: Any) -> Change:
    return Change(_dump(key), None if value is None else _dump(value).encode())


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
