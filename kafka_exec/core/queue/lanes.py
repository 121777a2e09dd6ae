"""Lanes of one partition: tasks of one key run one at a time, in order; a lane is held until the retry of its first task.

A deduplicated task has a lane of its own, by its id: a copy waits until the first one has ended. So has a task that is
retried, or begun again: if its worker is killed after it has sent the retry and before it has written the end, the task runs
again and sends a second retry.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple
from zlib import crc32

#: In place of a number of retries: the lane was stopped, and waits until an operator or a program resumes it.
STOPPED = -1


class Lane(NamedTuple):
    """The name of a lane. ``kind``: says if ``name`` is an ordering ``key``, or a task's ``id``."""

    kind: str
    name: str


class Run(NamedTuple):
    """A task id, and how often the task was retried, or continued after a suspension, before."""

    task_id: str
    retries: int

    @property
    def next(self) -> Run:
        """The next retry or continuation of the same task."""
        return self._replace(retries=self.retries + 1)

    @property
    def is_stop(self) -> bool:
        """True if no such run will come: the failure of this task has stopped its lane."""
        return self.retries == STOPPED


class Ticket(NamedTuple):
    """A record's place in a lane.

    Attributes:
        is_unique: other records of the same task id are dropped, whichever publisher has sent them.
        origin: the offset of the record whose run has sent this one; other records of the same origin are dropped.
        task: the task's name.
    """

    lane: Lane
    run: Run
    is_unique: bool = False
    origin: int | None = None
    task: str = ""

    @property
    def once(self) -> str | None:
        """The name under which the ledger remembers this record's end, to drop its copies; None if copies are allowed."""
        if self.origin is not None:
            return sent_by(self.origin)
        return self.run.task_id if self.is_unique and not self.run.retries else None

    @property
    def kind(self) -> str:
        """A short hash of the task's name, since ten thousand of them must fit into a checkpoint."""
        return f"{crc32(self.task.encode()):x}"

    @property
    def keeps_place(self) -> bool:
        """True if the lane waits for the retry when the task is retried."""
        return self.is_unique or self.lane.kind == "key"

    def ends(self, offset: int, *, is_over: bool, restarted: bool) -> list[str]:
        """The names to remember when this record has ended, so that its copies are dropped.

        Args:
            offset: the record's offset.
            is_over: the task has ended, and is not retried.
            restarted: the record was begun more than once.
        """
        found = [] if self.origin is None else [sent_by(self.origin)]
        if is_over and self.is_unique:
            found.append(self.run.task_id)
        if is_over and restarted:
            found.append(sent_by(offset))  # a run that was lost may have sent a retry
        return found


def sent_by(offset: int) -> str:
    """The name under which the ledger remembers the retry that a record's run has sent: it has ended, or must not run."""
    return f"@{offset}"


def after_retry(ticket: Ticket) -> Run:
    """The run that a lane waits for when its task is retried, or suspended."""
    return ticket.run.next


def after_failure(ticket: Ticket) -> Run:
    """The run that a lane waits for when its task's failure has stopped it; :data:`STOPPED` marks it."""
    return ticket.run._replace(retries=STOPPED)


#: The run of a record of which only the lane is known: a former owner has parked it.
UNREAD = Run("", 0)


class LaneView(NamedTuple):
    """A lane as the worker shows it.

    Attributes:
        waiting: the number of its records that have not ended.
        hold: the run that it waits for; None if it is not held.
        runs: its first task runs here.
    """

    lane: Lane
    waiting: int
    hold: Run | None
    runs: bool


#: The run that each held lane waits for: no other run of the lane begins before it.
Holds = Mapping[Lane, Run]


class Lanes:
    """The records of a partition that were read and have not ended, in the order in which they wait for one another.

    A lane that is *held* waits for the retry of its first task, whose record has ended. Only that retry is next, wherever
    its record is in the partition.
    """

    def __init__(self) -> None:
        self._tickets: dict[int, Ticket] = {}
        # Lists: most lanes are short, and for one record a deque takes 760 bytes, a list 88.
        self._queues: dict[Lane, list[int]] = {}
        # The offsets of retries. If there are several records of one retry, the first one counts.
        self._retries: dict[Run, int] = {}

    def enter(self, offset: int, ticket: Ticket) -> None:
        """Adds a record that was read. Offsets must grow from call to call."""
        if offset not in self._tickets:
            self._tickets[offset] = ticket
            self._queues.setdefault(ticket.lane, []).append(offset)
            if ticket.run.retries:
                self._retries.setdefault(ticket.run, offset)

    def ticket(self, offset: int) -> Ticket | None:
        """The ticket of a record; None if it is in no lane."""
        return self._tickets.get(offset)

    def tickets(self) -> list[tuple[int, Ticket]]:
        """All offsets with their tickets, in ascending order."""
        return list(self._tickets.items())

    def next(self, lane: Lane, holds: Holds) -> int | None:
        """The offset of the record of a lane that may run; None if none may."""
        if (awaited := holds.get(lane)) is not None:
            return self._retries.get(awaited)
        queue = self._queues.get(lane)
        return queue[0] if queue else None

    def may_run(self, offset: int, holds: Holds) -> bool:
        """True if no other record must end before this one begins."""
        ticket = self._tickets.get(offset)
        return ticket is None or self.next(ticket.lane, holds) == offset

    def after(self, lane: Lane) -> int | None:
        """The offset of the second record of a lane; None if there is none."""
        queue = self._queues.get(lane)
        return queue[1] if queue and len(queue) > 1 else None

    def know(self, offset: int, ticket: Ticket) -> None:
        """Adds the ticket of a record that was read now, and of which only the lane was known."""
        self._tickets[offset] = ticket
        if ticket.run.retries:
            self._retries.setdefault(ticket.run, offset)

    def is_blocked(self, offset: int, holds: Holds) -> bool:
        """True if a record waits in a held lane, and is not the retry that the lane waits for."""
        ticket = self._tickets.get(offset)
        return ticket is not None and ticket.lane in holds and self.next(ticket.lane, holds) != offset

    def blocked(self, holds: Holds) -> Iterator[tuple[Lane, list[int]]]:
        """The offsets of all blocked records, by lane; see :meth:`is_blocked`.

        Retries are among them only in lanes that were stopped: elsewhere the lane may wait for one of them as soon as the
        end of the run is told that has sent it, and of a parked record nothing but the lane is known.
        """
        for lane, awaited in holds.items():
            head, others = self.next(lane, holds), self._queues.get(lane, ())
            yield lane, [each for each in others if each != head and (awaited.is_stop or not self._is_retry(each))]

    def _is_retry(self, offset: int) -> bool:
        return self._tickets[offset].run.retries > 0

    def leave(self, offset: int) -> None:
        """Removes a record that has ended."""
        ticket = self._tickets.pop(offset, None)
        if ticket is None:
            return
        if self._retries.get(ticket.run) == offset:
            del self._retries[ticket.run]
        queue = self._queues[ticket.lane]
        if queue[0] == offset:
            del queue[0]
        else:
            queue.remove(offset)
        if not queue:
            del self._queues[ticket.lane]

    def places(self, lane: Lane, holds: Holds) -> dict[int, int]:
        """The number of runs of a lane that come before each of its records, by offset."""
        awaited = holds.get(lane)
        first = None if awaited is None else self._retries.get(awaited)
        others = [offset for offset in self._queues.get(lane, ()) if offset != first]
        found = {offset: place for place, offset in enumerate(others, start=0 if awaited is None else 1)}
        return found if first is None else {first: 0, **found}

    def views(self, holds: Holds, running: Container[int | None]) -> list[LaneView]:
        """The lanes in which records wait or run, or that wait for a run. ``running``: the offsets that run here."""
        waiting = {lane: len(queue) for lane, queue in self._queues.items()}
        return [
            LaneView(lane, waiting.get(lane, 0), holds.get(lane), self.next(lane, holds) in running)
            for lane in {**dict.fromkeys(holds), **dict.fromkeys(waiting)}
        ]
