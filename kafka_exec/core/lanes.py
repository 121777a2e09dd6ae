"""The lanes of one partition: tasks of one ordering key run one at a time, in the order of their records.

A task that is deduplicated has a lane of its own too, by its id: a copy waits until it is known whether the first has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

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
    """A record's place in a lane. ``is_unique``: another record of the same task, sent anew, is to be dropped."""

    lane: Lane
    run: Run
    is_unique: bool = False

    @property
    def drops(self) -> bool:
        """Whether it is to be dropped if its task has ended; what is retried has been sent before."""
        return self.is_unique and self.run.retries == 0


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
        # Where the records of retries are.
        self._retries: dict[Run, int] = {}

    def enter(self, offset: int, ticket: Ticket) -> None:
        """A record was read; offsets only grow."""
        if offset not in self._tickets:
            self._tickets[offset] = ticket
            self._queues.setdefault(ticket.lane, deque()).append(offset)
            if ticket.run.retries:
                self._retries[ticket.run] = offset

    def ticket(self, offset: int) -> Ticket | None:
        """A record's place; None if it is in no lane."""
        return self._tickets.get(offset)

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

    def leave(self, offset: int) -> None:
        """A record has ended."""
        ticket = self._tickets.pop(offset, None)
        if ticket is None:
            return
        self._retries.pop(ticket.run, None)
        queue = self._queues[ticket.lane]
        if queue[0] == offset:
            queue.popleft()
        else:
            queue.remove(offset)
        if not queue:
            del self._queues[ticket.lane]

    def members(self, lane: Lane) -> Iterator[tuple[int, Ticket]]:
        """The records of a lane, in their order."""
        return ((offset, self._tickets[offset]) for offset in self._queues.get(lane, ()))

    def lanes(self) -> list[tuple[Lane, int]]:
        """All lanes with how many records are in each."""
        return [(lane, len(queue)) for lane, queue in self._queues.items()]
