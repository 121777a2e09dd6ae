"""Tasks of each kind of end over some ordering keys, and the number of tasks that must be in each state then."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from kafka_exec.core.results.lifecycle import State
from tests.integration.workers import PATIENCE, Crew, until

HOUR = 3600.0

#: So many tasks wait behind the head of a key.
BEHIND = 3


class Case:
    """A number of tasks that end, and one or a few in each state in which a task may stay.

    Args:
        number: the tasks that end; each seventh one fails.
        keys: over how many ordering keys these are spread; 0: they have none.
    """

    def __init__(self, made: Crew, number: int, keys: int) -> None:
        self._made = made
        self._gate = made.gate()
        self._name = self._gate.name
        failing = {each for each in range(number) if each % 7 == 3}
        self.done: list[str] = []
        self._ids: set[str] = set()
        with made.app.producer_or_acquire():
            for each in range(number):
                key = {"ordering_key": f"{self._name}-{each % keys}"} if keys else {}
                if each in failing:
                    self._send("fail", "no", **key)
                else:
                    self.done += self._send("work", **key)
        self.running = self._send("hold", str(self._gate))
        self._send("work", countdown=HOUR)
        self._send("stumble", 1, HOUR)
        self.head = self._send("wait", self._name, {"timeout": HOUR}, ordering_key=self._name)
        self.behind = [each for _ in range(BEHIND) for each in self._send("work", ordering_key=self._name)]
        self.expected = Counter(
            {
                State.DONE: len(self.done),
                State.FAILED: len(failing),
                State.RUNNING: 1,
                State.SCHEDULED: 1,
                State.DELAYED: 1,
                State.SUSPENDED: 1,
                State.GROUP: BEHIND,
            }
        )

    def _send(self, task: str, *args: object, **options: object) -> list[str]:
        sent = self._made.send(task, *args, **options)
        self._ids.update(sent)
        return sent

    def counts(self) -> Counter[State]:
        """The number of its tasks in each state."""
        return Counter(each.state for each in self._made.app.backend.reader.scan() if each.id in self._ids)

    def check(self, timeout: float = PATIENCE) -> None:
        """Waits until each task is where it must be, and was run as often as it must; then lets those go on that wait."""
        self._made.effects.wait_for(self.done, timeout=timeout)
        until(lambda: self.counts() == +self.expected, what=f"{self.expected}")
        self._made.effects.assert_once(self.done)
        self._made.effects.assert_once(self.head, "begin")
        begun = self._made.effects.count("begin")
        assert [each for each in self.behind if begun[each]] == []
        Path(self._gate).touch()
        self._made.app.backend.call_back(self._name, "", self._made.app.backend.text_of(1))
        self._made.effects.wait_for([*self.running, *self.head, *self.behind])
        moved = {State.RUNNING: 1, State.SUSPENDED: 1, State.GROUP: BEHIND}
        ended = self.expected - Counter(moved) + Counter({State.DONE: sum(moved.values())})
        until(lambda: self.counts() == +ended, what=f"{ended}")
