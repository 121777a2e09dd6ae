"""The rules of suspended tasks in a simulated world."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kafka_exec.core.control.reducers import Command
from kafka_exec.core.durable.continuation import ANSWERED, FAILED, TIMED_OUT
from tests.simulation.judge import Violation
from tests.unit.twins.waiting import PlainWaits

if TYPE_CHECKING:
    from tests.simulation.plane.brokers import Partition, Sent
    from tests.simulation.plane.world import PlaneWorld

#: The topics of the messages that continue tasks, of callbacks that no task gets, of answers to callers, and of states.
CONTINUED, BURIED, REPLIES, STATES = "continued", "buried", "replies", "states"

#: A callback is kept, and an id remembered, for so many seconds.
EARLY, REMEMBERED = 6.0, 12.0

#: The data of a callback that is too large, or the id of one whose suspension is; and what a dead letter says of it.
HUGE, TOLD_HUGE = "huge", "too large"

#: Timestamps of records are rounded, seconds.
_ROUNDED = 0.001


@dataclass
class Wait:
    """A suspension. ``expected``: as in its command; ``deadline``: simulated time; None: there is none."""

    id: str
    expected: int | list[str]
    deadline: float | None

    @property
    def needs(self) -> int:
        return self.expected if isinstance(self.expected, int) else len(self.expected)


class WaitRules:
    """The judge of suspended tasks: it sees what transactions commit, and at the end the commands.

    A suspension has one end: all its callbacks, or its deadline, not before it, or an error. A callback comes to one end, or
    becomes one dead letter, if it does not come too late, twice or unexpected. What the control plane has done is in the end
    what a plain twin does that reads the commands once, and never fails.

    Attributes:
        waits, ends: the suspensions, by task and number, and the outcomes of their ends.
        sent: the callbacks, by their data: the correlation id, and the id of the callback.
    """

    def __init__(self, world: PlaneWorld) -> None:
        self.waits: dict[tuple[str, int], Wait] = {}
        self.ends: dict[tuple[str, int], str] = {}
        self.sent: dict[str, tuple[str, str]] = {}
        self._world = world
        self._used: set[str] = set()
        # What was done, and what callers were told.
        self._done: list[str] = []
        self._told: set[str] = set()

    def ended(self, record: Sent) -> None:
        """Takes the message that continues a task."""
        task, number, page, outcome, answers = json.loads(record.value() or b"")
        wait = self.waits[task, number]
        if (task, number) in self.ends:
            raise Violation("a task is continued twice", task, number, self.ends[task, number], outcome)
        self.ends[task, number] = outcome
        for callback, data in answers.items():
            self._use(wait.id, callback, data)
        if outcome == ANSWERED:
            if len(answers) != wait.needs or (isinstance(wait.expected, list) and set(answers) != set(wait.expected)):
                raise Violation("a task is continued without all callbacks", task, number, wait, answers)
        elif outcome == TIMED_OUT:
            if wait.deadline is None or self._world.now < wait.deadline - _ROUNDED:
                raise Violation("a task is continued before its deadline", task, number, wait)
            if wait.needs and len(answers) >= wait.needs:
                raise Violation("a task has all callbacks, and is told that its time is over", task, number, wait)
        told = (outcome, task, number, page, answers)
        self._note(*(told if outcome in (ANSWERED, TIMED_OUT) else told[:4]))

    def buried(self, record: Sent) -> None:
        """Takes the dead letter of a callback."""
        id, callback, data = json.loads(record.value() or b"")
        self._use(id, callback, data)
        self._note("buried", id, callback, data)

    def replied(self, value: bytes | None) -> None:
        """Takes the answer to a caller."""
        reply, outcome, got, needs = json.loads(value or b"")
        self._told.add(_text("reply", reply, outcome, got, needs))

    def _use(self, id: str, callback: str, data: str) -> None:
        if data == TOLD_HUGE:
            return
        if data in self._used:
            raise Violation("a callback is used twice", id, callback, data)
        if self.sent.get(data) != (id, callback):
            raise Violation("a callback comes to another task", id, callback, data, self.sent.get(data))
        self._used.add(data)

    def _note(self, *result: Any) -> None:
        self._world.judge.runs += 1
        self._done.append(_text(*result))

    def missing(self) -> set[str]:
        """The suspensions that have not ended."""
        return {f"{task} {number}" for task, number in self.waits if (task, number) not in self.ends}

    def compare(self, commands: list[Partition]) -> None:
        """Compares what was done with what a twin does that reads the commands once.

        Raises:
            Violation: it is not the same.
        """
        expected = [result for log in commands for result in self._plain(log)]
        plain = Counter(_text(*result) for result in expected if result[0] != "reply")
        done = Counter(self._done)
        if done != plain:
            raise Violation("the twin does otherwise", "more:", *(done - plain), "less:", *(plain - done))
        if wrong := self._told - {_text(*result) for result in expected}:
            raise Violation("a caller is told otherwise", *wrong)

    def _plain(self, log: Partition) -> list[tuple[Any, ...]]:
        """All that the twin does."""
        twin, now, done = _Twin(EARLY, REMEMBERED), 0.0, list[tuple[Any, ...]]()
        for record in log.everything():
            now = max(now, record.timestamp()[1] / 1000)
            command = Command.decode(record.value())
            if command.kind == "wait.revoke":
                done += twin.revoke(command.body["tasks"], now)
            elif command.kind in ("wait.suspend", "wait.callback"):
                done += twin.take(command.kind, dict(command.body), now)
            else:
                done += twin.pass_time(now)
        return done


class _Twin(PlainWaits):
    """The twin where tasks are revoked, and where Kafka refuses what is too large."""

    def take(self, kind: str, body: dict[str, Any], now: float) -> list[tuple[Any, ...]]:
        done, id = super().take(kind, body, now), body["id"]
        early = [callback for callback, data in self.early.get(id, {}).items() if data == HUGE]
        done += [("buried", id, each, self.early[id].pop(each)) for each in early]
        if (wait := self.waiting.get(id)) and HUGE in (*wait["answers"].values(), *_names(wait["expected"])):
            done.append(self._end(id, FAILED, now))
        return [_refused(each) for each in done]

    def revoke(self, tasks: list[str], now: float) -> list[tuple[Any, ...]]:
        done = self.pass_time(now)
        revoked = [id for id, wait in self.waiting.items() if wait["task"] in tasks]
        return done + [_refused(self._end(id, FAILED, now)) for id in revoked]


def _names(expected: Any) -> list[str]:
    return [] if isinstance(expected, int) else list(expected)


def _refused(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """The result of a twin, as it is if Kafka refuses what is too large."""
    if result[0] == "buried" and result[3] == HUGE:
        return (*result[:3], TOLD_HUGE)
    is_refused = result[0] == ANSWERED and HUGE in result[4].values()
    return (FAILED, *result[1:4]) if is_refused or result[0] == FAILED else result


def _text(*result: Any) -> str:
    return json.dumps(result, sort_keys=True)
