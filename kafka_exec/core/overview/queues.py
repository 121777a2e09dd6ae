"""The line of a queue in an operator's view: its tasks, the workers that read it, and its state in one word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.overview.counts import QueueCounts
from kafka_exec.core.queue.pausing import NO_PAUSES, QueuePauses


class QueueState(Enum):
    """The state of a queue."""

    EMPTY = "empty"
    WORKING = "working"
    #: All slots of its workers are taken, and tasks are ready.
    FULL = "full"
    #: All its tasks wait for others of their ordering keys.
    BLOCKED = "blocked"
    #: Tasks wait, and no worker reads the queue.
    NO_WORKERS = "no workers"
    #: Its tasks do not begin until it is resumed.
    PAUSED = "paused"


@dataclass(frozen=True)
class QueueReport:
    """A queue as an operator sees it.

    Attributes:
        delayed: tasks that wait in Kafka for their time, to come to this queue then.
        dead: its dead letters that were not replayed.
        workers, slots, busy: the living workers that read it, how many tasks they run at most, and how many they run now,
            of this and other queues.
        rate: the messages that came to it in a second, on the average of the last minute.
        pauses: those that are in force.
    """

    name: str
    counts: QueueCounts
    delayed: int = 0
    dead: int = 0
    workers: int = 0
    slots: int = 0
    busy: int = 0
    rate: float = 0.0
    pauses: QueuePauses = NO_PAUSES

    @property
    def free(self) -> int:
        """The free slots of its workers."""
        return max(0, self.slots - self.busy)

    @property
    def state(self) -> QueueState:
        """The state of the queue."""
        if self.pauses.whole is not None:
            return QueueState.PAUSED
        found = self.counts
        waits = found.ready + found.lost + found.blocked
        if not self.workers and (waits or found.running):
            return QueueState.NO_WORKERS
        if found.ready and not self.free:
            return QueueState.FULL
        if found.ready or found.running or found.lost:
            return QueueState.WORKING
        return QueueState.BLOCKED if waits else QueueState.EMPTY

    def facts(self, now: float) -> dict[str, Any]:
        """The report as a JSON object. ``now``: epoch seconds."""
        counts = asdict(self.counts)
        oldest = counts.pop("oldest")
        return {
            "queue": self.name,
            **counts,
            "blocked": self.counts.blocked,
            "oldest": oldest,
            "oldest_age": None if oldest is None else max(0.0, now - oldest),
            "delayed": self.delayed,
            "dead": self.dead,
            "workers": self.workers,
            "slots": self.slots,
            "free": self.free,
            "rate": self.rate,
            "state": self.state.value,
            "paused": None if self.pauses.whole is None else self.pauses.whole._asdict(),
            "paused_keys": {key: pause._asdict() for key, pause in self.pauses.keys.items()},
        }


def report(
    name: str,
    found: QueueCounts,
    heartbeats: Iterable[Heartbeat],
    *,
    delayed: int = 0,
    dead: int = 0,
    rate: float = 0.0,
    pauses: QueuePauses = NO_PAUSES,
) -> QueueReport:
    """The report of a queue.

    Args:
        heartbeats: the last one of each node that lives.
        pauses: those that are in force.
    """
    readers = [each for each in heartbeats if name in each.queues]
    return QueueReport(
        name,
        found,
        delayed,
        dead,
        len(readers),
        sum(each.slots for each in readers),
        sum(each.active for each in readers),
        rate,
        pauses,
    )
