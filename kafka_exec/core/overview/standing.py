"""The standing of a task's message in its queue: it runs, it may begin, or other messages must end before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kafka_exec.core.overview.counts import begun, lanes_of
from kafka_exec.core.queue.lanes import Ticket
from kafka_exec.core.queue.ledger import Ledger


class TaskRecord(NamedTuple):
    """A message of a task that was read from a queue.

    Attributes:
        at: when it was written, epoch seconds.
        ticket: its place in a lane; None: it is in none.
        id: the task's id; empty: the message is no task.
        needed: the capability that a worker needs, as in :mod:`kafka_exec.core.worker.versions`.
        due: the task's time, epoch seconds; None: it has none.
    """

    offset: int
    at: float
    ticket: Ticket | None = None
    id: str = ""
    needed: str = ""
    due: float | None = None


class MessageStanding(NamedTuple):
    """The standing of an unfinished message.

    Attributes:
        place: its topic, partition and offset.
        incarnation: the one that runs it, or has the task to run it; empty: it waits.
        is_blocked: others of its lane come before it.
        key: the ordering key of its lane; empty: it has none, so that it waits at most for other messages of its own task.
        ahead: the number of runs of its lane that come before it.
        head: the id of the task that the lane waits for; empty: it was not read.
        is_stopped: the failure of that task has stopped the lane.
    """

    queue: str
    place: tuple[str, int, int]
    at: float
    needed: str = ""
    due: float | None = None
    incarnation: str = ""
    is_blocked: bool = False
    key: str = ""
    ahead: int = 0
    head: str = ""
    is_stopped: bool = False


class QueuePartition:
    """One partition of a queue as far as it was read."""

    def __init__(self, queue: str, topic: str, partition: int, ledger: Ledger, records: Iterable[TaskRecord]) -> None:
        self.queue = queue
        self.place = (topic, partition)
        self._ledger = ledger
        self._records = {each.offset: each for each in records if not ledger.has_ended(each.offset)}
        self._lanes = lanes_of(ledger, {each.offset: each.ticket for each in self._records.values()})

    @property
    def waiting_or_running(self) -> list[TaskRecord]:
        """The messages that have not ended."""
        return list(self._records.values())

    def standings(self, task_id: str) -> list[MessageStanding]:
        """The standings of a task's messages."""
        return [self._standing(each) for each in self._records.values() if each.id == task_id]

    def ready_before(self, other: MessageStanding) -> int:
        """The number of messages that may begin and were not written after another one."""
        before = (each for each in self._records.values() if each.at <= other.at)
        waiting = (each.offset for each in before if begun(self._ledger, each.offset) is None)
        return sum(
            self._lanes.may_run(offset, self._ledger.holds)
            for offset in waiting
            if (*self.place, offset) != other.place
        )

    def _standing(self, record: TaskRecord) -> MessageStanding:
        lease = begun(self._ledger, record.offset)
        found = MessageStanding(
            self.queue,
            (*self.place, record.offset),
            record.at,
            record.needed,
            record.due,
            "" if lease is None else lease.incarnation,
            key=record.ticket.lane.name if record.ticket is not None and record.ticket.lane.kind == "key" else "",
        )
        if lease is not None or record.ticket is None or self._lanes.may_run(record.offset, self._ledger.holds):
            return found
        lane = record.ticket.lane
        hold = self._ledger.holds.get(lane)
        first = self._lanes.next(lane, self._ledger.holds)
        head = self._records.get(-1 if first is None else first)
        return found._replace(
            is_blocked=True,
            ahead=self._lanes.places(lane, self._ledger.holds)[record.offset],
            head=hold.task_id if hold is not None else "" if head is None else head.id,
            is_stopped=hold is not None and hold.is_stop,
        )
