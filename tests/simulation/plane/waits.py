"""Suspended tasks of a simulated world: tasks that wait, and callers who call them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kafka_exec.core.control.reducers import Command
from kafka_exec.core.control.wait_effects import BuryCallback, Continue, Refuse, Reply, TellProgress, Unwatch, Watch
from kafka_exec.core.durable.continuation import FAILED, REFUSED
from kafka_exec.kafka.publish.scopes import Outgoing
from tests.simulation.plane.wait_rules import BURIED, CONTINUED, HUGE, REPLIES, STATES, TOLD_HUGE, Wait, WaitRules

if TYPE_CHECKING:
    from tests.simulation.plane.process import Process
    from tests.simulation.plane.world import PlaneWorld

Thread = Iterator[float]


def performers_of(process: Process) -> dict[type[Any], Any]:
    """The functions that make the records of the decisions about suspensions."""

    def continues(effect: Continue | Refuse) -> list[Outgoing]:
        answers = effect.answers if isinstance(effect, Continue) else {}
        told = [effect.task, effect.number, effect.page, effect.outcome, answers]
        return [Outgoing(CONTINUED, json.dumps(told).encode())]

    def watches(effect: Watch) -> list[Outgoing]:
        process.watched[effect.id] = set(effect.tasks)
        return []

    def watches_no_more(effect: Unwatch) -> list[Outgoing]:
        process.watched.pop(effect.id, None)
        return []

    def replies(effect: Reply) -> list[Outgoing]:
        told = [effect.reply, effect.outcome.value, effect.got, effect.expected]
        return [Outgoing(REPLIES, json.dumps(told).encode())]

    def buries(effect: BuryCallback) -> list[Outgoing]:
        data = TOLD_HUGE if effect.data == HUGE else effect.data
        return [Outgoing(BURIED, json.dumps([effect.id, effect.callback, data]).encode())]

    return {
        Continue: continues,
        Refuse: continues,
        Watch: watches,
        Unwatch: watches_no_more,
        Reply: replies,
        TellProgress: lambda effect: [Outgoing(STATES, json.dumps([effect.task, effect.got]).encode())],
        BuryCallback: buries,
    }


class Waits:
    """The suspended tasks of one world, and those who call them back."""

    def __init__(self, world: PlaneWorld) -> None:
        self.rules = WaitRules(world)
        self._world, self._rng = world, world.rng
        # The tasks that have ended, each with the id of the suspension that waits for it.
        self._ended: set[tuple[str, str]] = set()
        self._pages = self._callbacks = 0

    def clients(self, count: int) -> list[Thread]:
        """The tasks. Some have an id that another one has too."""
        found = []
        for number in range(count):
            found.append(self._task(f"w{number}", f"t{number}", self._rng.randint(1, 3)))
            if self._rng.random() < 0.25:
                found.append(self._task(f"w{number}", f"u{number}", 1))
        return found

    def _task(self, id: str, task: str, calls: int) -> Thread:
        """A task from its start to its end: it suspends itself, goes on, and so on."""
        rng, world, rules = self._rng, self._world, self.rules
        yield rng.random() * world.plan.seconds * 0.7
        for number in range(1, calls + 1):
            wait, watched = self._wait(id, number)
            rules.waits[task, number] = wait
            self._start_callers(wait, watched)
            yield rng.choice((0.0, 5.0)) * rng.random()
            suspend = {"id": id, "task": task, "created": 1.0, "number": number, "deadline": wait.deadline}
            suspend |= {"expected": wait.expected, "watched": watched, "tells": rng.random() < 0.3}
            yield from self._suspend(suspend)
            if rng.random() < 0.3:
                world.send(self._suspends_again(suspend))
            if rng.random() < 0.1:
                world.send(self._revokes(task))
            while (task, number) not in rules.ends:
                yield 0.3
            if rules.ends[task, number] in (REFUSED, FAILED):
                break

    def _wait(self, id: str, number: int) -> tuple[Wait, list[str]]:
        """A suspension, and those of its callbacks that are the ends of tasks."""
        rng, watched = self._rng, list[str]()
        if rng.random() < 0.15:  # nothing but the end of a task continues it
            watched = [f"x{number}"]
            return Wait(id, watched, None), watched
        expected: int | list[str] = rng.randint(0, 3)
        if rng.random() < 0.6:
            expected = rng.sample("abc", k=rng.randint(1, 3))
            watched = [f"x{number}"] if rng.random() < 0.4 else []
            expected += watched
            if rng.random() < 0.2:
                expected.append(HUGE)  # it is too large for the changelog
        return Wait(id, expected, self._world.now + 1.0 + rng.random() * rng.choice((4.0, 20.0))), watched

    def _start_callers(self, wait: Wait, watched: list[str]) -> None:
        rng, world = self._rng, self._world
        names = "abc"[: wait.expected] if isinstance(wait.expected, int) else "".join(wait.expected)
        for name in "abc":
            if name in names and rng.random() < 0.9:
                for _ in range(rng.choice((1, 1, 2))):
                    world.send(self._calls(wait.id, name))
        for task in watched:
            world.send(self._ends(wait.id, task))
        if rng.random() < 0.3:
            world.send(self._calls(wait.id, "stranger"))

    def _suspend(self, suspend: dict[str, Any]) -> Thread:
        self._pages += 1
        return self._world.commands(suspend["id"], Command("wait.suspend", {**suspend, "page": [0, self._pages]}))

    def _suspends_again(self, suspend: dict[str, Any]) -> Thread:
        """A repeated run of the task, with a page of its own."""
        yield self._rng.random() * 4.0
        yield from self._suspend(suspend)

    def _revokes(self, task: str) -> Thread:
        yield self._rng.random() * 4.0
        yield from self._world.commands(None, Command("wait.revoke", {"tasks": [task]}))

    def _calls(self, id: str, callback: str) -> Thread:
        yield self._rng.random() * self._rng.choice((2.0, 8.0, 16.0))
        yield from self._world.commands(id, self._callback(id, callback))

    def _ends(self, id: str, task: str) -> Thread:
        yield self._rng.random() * 12.0
        self._ended.add((id, task))

    def _callback(self, id: str, callback: str) -> Command:
        """A new callback, with data of its own: they tell what has become of it."""
        self._callbacks += 1
        data, reply = f"d{self._callbacks}", self._rng.choice((f"r{self._callbacks}", None))
        if self._rng.random() < 0.04:
            data = HUGE
        self.rules.sent[data] = id, callback
        return Command("wait.callback", {"id": id, "callback": callback, "data": data, "reply": reply})

    def watches(self, process: Process) -> Thread:
        """Has a process tell suspensions of the ends of tasks that it is to watch."""
        while True:
            yield self._rng.random()
            found = {(id, task) for id, tasks in process.watched.items() for task in tasks} & self._ended
            for id, task in () if process.is_cut else sorted(found):
                process.watched.get(id, set()).discard(task)
                yield from self._world.commands(id, self._callback(id, task))
