"""The rates of a queue's tasks over a time, by their names, from its messages and its journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kafka_exec.core.overview.audit import JournalEvent
from kafka_exec.core.queue.transitions import ENDED, STARTED


class SentTask(NamedTuple):
    """A message of a queue: the name of its task, and when it was written, epoch seconds."""

    name: str
    at: float


@dataclass
class TaskRates:
    """The numbers of a time.

    Attributes:
        sent, begun, ended: the messages that came, the runs that began, and the messages that have ended.
        first: the runs that were the first ones of their messages.
        waited: the seconds that the messages of these have waited, all together.
    """

    sent: int = 0
    begun: int = 0
    ended: int = 0
    first: int = 0
    waited: float = 0.0

    @property
    def wait(self) -> float | None:
        """The seconds from a message to its first run, on the average; None if there was none."""
        return self.waited / self.first if self.first else None

    def __add__(self, other: TaskRates) -> TaskRates:
        return TaskRates(
            self.sent + other.sent,
            self.begun + other.begun,
            self.ended + other.ended,
            self.first + other.first,
            self.waited + other.waited,
        )

    def facts(self, seconds: float) -> dict[str, Any]:
        """The numbers of so many seconds as a JSON object."""
        return {"seconds": seconds, "sent": self.sent, "begun": self.begun, "ended": self.ended, "wait": self.wait}


def with_total(tasks: Mapping[str, TaskRates]) -> list[tuple[str | None, TaskRates]]:
    """The numbers of all tasks of a queue, under None, then those of each, the most frequent first."""
    ordered = sorted(tasks.items(), key=lambda each: (-each[1].begun, -each[1].sent, each[0]))
    return [(None, sum(tasks.values(), TaskRates())), *ordered]


def lines(found: Mapping[str, Mapping[str, TaskRates]], seconds: float) -> Iterator[dict[str, Any]]:
    """The numbers of queues, each with its total, over so many seconds, as JSON objects."""
    for queue, tasks in sorted(found.items()):
        for task, each in with_total(tasks):
            yield {"schema": 1, "queue": queue, "task": task, **each.facts(seconds)}


def rates(messages: Mapping[int, SentTask], journal: Iterable[JournalEvent], since: float) -> dict[str, TaskRates]:
    """The numbers of a partition since a time, by the names of tasks; the name of a message that was not read is empty.

    Args:
        messages: those of that time, and those that the journal tells of, by their offsets.
        journal: what was told since then.
        since: epoch seconds.
    """
    found: dict[str, TaskRates] = {}
    for message in messages.values():
        if message.at >= since:
            found.setdefault(message.name, TaskRates()).sent += 1
    for event in journal:
        transition = event.transition
        known = messages.get(transition.offset)
        if transition.kind not in (STARTED, ENDED):
            continue
        task = found.setdefault(known.name if known is not None else "", TaskRates())
        if transition.kind == ENDED:
            task.ended += 1
            continue
        task.begun += 1
        if known is not None and transition.attempt == 1:
            task.first += 1
            task.waited += max(0.0, event.at - known.at)
    return found
