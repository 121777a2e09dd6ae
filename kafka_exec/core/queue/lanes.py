"""Lanes of one partition: tasks of one key run one at a time, in order; a retried task holds its lane until it is retried.

A task that is deduplicated has a lane of its own too, by its id: a copy waits until it is known whether the first has ended.
So has one that is retried, or begun again: a run that is killed between sending the task anew and saying so is repeated, and
sends it a second time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from zlib import crc32

#: In place of a number of retries: the run that a lane waits for, when only somebody's word lets it go on.
STOPPED = -1


class Lane(NamedTuple):
    """What tasks of one lane have in common. ``kind``: what ``name`` is: an ordering ``key``, or a task's ``id``."""

    kind: str
    name: str


class Run(NamedTuple):
    """A task, with how often it was retried before."""

    task_id: str
    retries: int

    @property
    def next(self) -> Run:
        """The same task when it is retried."""
        return self._replace(retries=self.retries + 1)

    @property
    def is_stop(self) -> bool:
        """Whether it is no run that will come: the lane was stopped by this task's failure."""
        return self.retries == STOPPED


class Ticket(NamedTuple):
    """A record's place in a lane.

    Attributes:
        is_unique: another record of the same task, sent by anybody, is to be dropped.
        origin: the offset of the record whose run has sent this one; another one of the same origin is to be dropped.
        task: the task's name.
    """

    lane: Lane
    run: Run
    is_unique: bool = False
    origin: int | None = None
    task: str = ""

    @property
    def once(self) -> str | None:
        """Under which name it is remembered that its like has ended; None: there may be many of its like."""
        if self.origin is not None:
            return sent_by(self.origin)
        return self.run.task_id if self.is_unique and not self.run.retries else None

    @property
    def kind(self) -> str:
        """What stands for the task's name where ten thousand are to fit into a record."""
        return f"{crc32(self.task.encode()):x}"

    @property
    def keeps_place(self) -> bool:
        """Whether its lane waits for its task when that is sent anew."""
        return self.is_unique or self.lane.kind == "key"

    def ends(self, offset: int, *, is_over: bool, restarted: bool) -> list[str]:
        """What is to be remembered when this record has ended, at an offset.

        Args:
            is_over: its task was not sent anew.
            restarted: it was begun more than once.
        """
        found = [] if self.origin is None else [sent_by(self.origin)]
        if is_over and self.is_unique:
            found.append(self.run.task_id)
        if is_over and restarted:
            found.append(sent_by(offset))  # by a run that was lost
        return found


def sent_by(offset: int) -> str:
    """Under which name it is remembered that what a record's run has sent anew has ended, or is not to run."""
    return f"@{offset}"


def after_retry(ticket: Ticket) -> Run:
    """What the lane of a task waits for that was sent anew."""
    return ticket.run.next


def after_failure(ticket: Ticket) -> Run:
    """What the lane of a task waits for that has stopped it."""
    return ticket.run._replace(retries=STOPPED)


#: By lane, the run that it waits for: no other one begins before.
Holds = Mapping[Lane, Run]


class Lanes:
    """Which records of a partition wait for which: those that were read and have not ended, in their order.

    A lane that is *held* waits for the retry of its head, which has ended: only that one is next, wherever its record is.
    """

    def __init__(self) -> None:
        self._tickets: dict[int, Ticket] = {}
        self._queues: dict[Lane, deque[int]] = {}
        # Where the records of retries are; of several the first.
        self._retries: dict[Run, int] = {}

    def enter(self, offset: int, ticket: Ticket) -> None:
        """A record was read; offsets only grow."""
        if offset not in self._tickets:
            self._tickets[offset] = ticket
            self._queues.setdefault(ticket.lane, deque()).append(offset)
            if ticket.run.retries:
                self._retries.setdefault(ticket.run, offset)

    def ticket(self, offset: int) -> Ticket | None:
        """A record's place; None if it is in no lane."""
        return self._tickets.get(offset)

    def tickets(self) -> list[tuple[int, Ticket]]:
        """All records with their places, by their offsets."""
        return list(self._tickets.items())

    def next(self, lane: Lane, holds: Holds) -> int | None:
        """The record of a lane that may run; None if none may."""
        if (awaited := holds.get(lane)) is not None:
            return self._retries.get(awaited)
        queue = self._queues.get(lane)
        return queue[0] if queue else None

    def may_run(self, offset: int, holds: Holds) -> bool:
        """Whether no other record comes before this one."""
        ticket = self._tickets.get(offset)
        return ticket is None or self.next(ticket.lane, holds) == offset

    def after(self, lane: Lane) -> int | None:
        """The record that comes after the first of a lane, if nothing happens."""
        queue = self._queues.get(lane)
        return queue[1] if queue and len(queue) > 1 else None

    def know(self, offset: int, ticket: Ticket) -> None:
        """A record was read of which only the lane was known."""
        self._tickets[offset] = ticket
        if ticket.run.retries:
            self._retries.setdefault(ticket.run, offset)

    def is_blocked(self, offset: int, holds: Holds) -> bool:
        """Whether a record waits for a run that is not in its lane, or is to come before it."""
        ticket = self._tickets.get(offset)
        return ticket is not None and ticket.lane in holds and self.next(ticket.lane, holds) != offset

    def blocked(self, holds: Holds) -> Iterator[tuple[Lane, list[int]]]:
        """By lane, all that :meth:`is_blocked`."""
        for lane in holds:
            head = self.next(lane, holds)
            yield lane, [offset for offset in self._queues.get(lane, ()) if offset != head]

    def leave(self, offset: int) -> None:
        """A record has ended."""
        ticket = self._tickets.pop(offset, None)
        if ticket is None:
            return
        if self._retries.get(ticket.run) == offset:
            del self._retries[ticket.run]
        queue = self._queues[ticket.lane]
        if queue[0] == offset:
            queue.popleft()
        else:
            queue.remove(offset)
        if not queue:
            del self._queues[ticket.lane]

    def places(self, lane: Lane, holds: Holds) -> dict[int, int]:
        """By their offsets, how many runs of a lane come before each of its records."""
        awaited = holds.get(lane)
        first = None if awaited is None else self._retries.get(awaited)
        others = [offset for offset in self._queues.get(lane, ()) if offset != first]
        found = {offset: place for place, offset in enumerate(others, start=0 if awaited is None else 1)}
        return found if first is None else {first: 0, **found}

    def lanes(self) -> list[tuple[Lane, int]]:
        """All lanes with how many records are in each."""
        return [(lane, len(queue)) for lane, queue in self._queues.items()]
