"""The records of one partition that wait in lanes, and the effect of an end on the records behind it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Container
from typing import NamedTuple

from confluent_kafka import Message as Record

from kafka_exec.core.message.envelope import Headers
from kafka_exec.core.queue.lanes import Lane, Lanes, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger, Memory, Transition, freed, held, parked, remembered
from kafka_exec.core.queue.parking import to_park

#: The most bytes of waiting records that are held in memory. The rest are offsets, and read again when their turn comes.
_MOST_BYTES = 512 * 1024

#: The memory that a record takes beside its value, bytes.
_OVERHEAD = 1024

#: The most records that :meth:`Queued.newcomers` tells of at once.
_MOST_NEWCOMERS = 10_000

#: The run of a parked record that was not read again yet.
_UNREAD = Run("", 0)


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


class Newcomer(NamedTuple):
    """A record that has begun to wait in a lane.

    Attributes:
        timestamp: when it was written, epoch seconds.
        place: the number of records before it in its lane.
    """

    offset: int
    headers: Headers
    timestamp: float
    place: int = 0


class Queued:
    """The records of one partition in their lanes. Not thread-safe.

    Args:
        ledger: the partition's ledger, with the runs that lanes wait for, and the ends by which copies are dropped.
        remember: how long copies are dropped after such an end, seconds.

    Attributes:
        wanted: the offsets of records that are needed soon, and not held in memory.
    """

    def __init__(self, ledger: Ledger, remember: float) -> None:
        self.wanted: set[int] = set()
        self._ledger = ledger
        self._remember = remember
        self._lanes = Lanes()
        self._kept: dict[int, Record] = {}
        self._bytes = 0
        self._newcomers: deque[Newcomer] = deque(maxlen=_MOST_NEWCOMERS)

    # -- records -------------------------------------------------------------------------------------------------------

    def enter(self, offset: int, ticket: Ticket) -> None:
        """Notes the place of a record that was read."""
        self._lanes.enter(offset, ticket)

    def enter_parked(self) -> list[Lane]:
        """Gives parked records their places, though they are not read again yet. Returns their lanes."""
        for offset, lane in sorted(self._ledger.parked.items()):
            self._lanes.enter(offset, Ticket(lane, _UNREAD))
        return list(dict.fromkeys(self._ledger.parked.values()))

    def know(self, offset: int, ticket: Ticket) -> None:
        """Notes the place of a record that was read again."""
        self._lanes.know(offset, ticket)

    def park(self, low: int) -> list[Transition]:
        """Parks records that wait in held lanes, if they keep the commit back. Returns the transitions to tell.

        Args:
            low: the lowest unfinished offset.
        """
        holds = self._ledger.holds
        if not self._lanes.is_blocked(low, holds):
            return []
        chosen = to_park(self._lanes.blocked(holds), self._ledger.parked)
        for lane, offsets in chosen.items():
            self._ledger.park(lane, offsets)
        return [parked(lane, offsets) for lane, offsets in chosen.items()]

    def ticket(self, offset: int) -> Ticket | None:
        """A record's place; None if it is in no lane."""
        return self._lanes.ticket(offset)

    def may_run(self, offset: int) -> bool:
        """True if no other record comes before this one."""
        return self._lanes.may_run(offset, self._ledger.holds)

    def next(self, lane: Lane) -> int | None:
        """The offset of the record of a lane that may run; None if none may."""
        return self._lanes.next(lane, self._ledger.holds)

    def original(self, offset: int) -> Memory | None:
        """The remembered end of the task of which a record is a copy; None if it is no copy."""
        ticket = self._lanes.ticket(offset)
        since = time.time() - self._remember
        return None if ticket is None or ticket.once is None else self._ledger.recall(ticket.once, since)

    def wait(self, record: Record) -> None:
        """Notes a record that must wait for others of its lane."""
        self.keep(record)
        self._newcomers.append(Newcomer(record.offset(), record.headers() or [], record.timestamp()[1] / 1000))

    def newcomers(self) -> list[Newcomer]:
        """The records of ordering keys that began to wait since the last call, and still wait; of very many the last."""
        tickets = [(each, self._lanes.ticket(each.offset)) for each in self._newcomers]
        self._newcomers.clear()
        waiting = [(each, ticket.lane) for each, ticket in tickets if ticket is not None and ticket.lane.kind == "key"]
        places = {lane: self._lanes.places(lane, self._ledger.holds) for _, lane in waiting}
        found = [each._replace(place=places[lane][each.offset]) for each, lane in waiting]
        return [each for each in found if each.place]

    def keep(self, record: Record, *, anyway: bool = False) -> None:
        """Holds a waiting record in memory, if there is room or it must be (``anyway``)."""
        if anyway or self._bytes < _MOST_BYTES:
            self._kept[record.offset()] = record
            self._bytes += len(record) + _OVERHEAD

    def take(self, offset: int) -> Record | None:
        """Takes out a record whose turn has come; None if it must be read again. The record after it will be needed soon."""
        ticket = self._lanes.ticket(offset)
        after = None if ticket is None else self._lanes.after(ticket.lane)
        if after is not None and after not in self._kept:
            self.wanted.add(after)
        record = self._kept.pop(offset, None)
        if record is None:
            self.wanted.add(offset)
        else:
            self._bytes -= len(record) + _OVERHEAD
        return record

    def leave(self, offset: int) -> None:
        """Notes that a record has ended, or that another worker runs it."""
        self._lanes.leave(offset)
        self.wanted.discard(offset)
        if (record := self._kept.pop(offset, None)) is not None:
            self._bytes -= len(record) + _OVERHEAD

    # -- ends ----------------------------------------------------------------------------------------------------------

    def finish(self, offset: int, ticket: Ticket, awaited: Run | None, *, restarted: bool) -> list[Transition]:
        """Notes the end of a record, after which its lane waits for a run, or goes on. Returns the transitions to tell.

        Args:
            awaited: the run that the lane waits for, which is a retry of this task, or the stop of the lane.
            restarted: the task was begun more than once.
        """
        told = []
        if awaited is not None and ticket.keeps_place:
            self._ledger.hold(ticket.lane, awaited)
            told.append(held(offset, ticket.lane, awaited))
        elif ticket.run.retries and ticket.keeps_place:
            # Told in any case: a worker that runs another owner's task does not know the run that its lane waits for.
            self._ledger.free(ticket.lane, ticket.run)
            told.append(freed(offset, ticket.lane, ticket.run))
        if self.original(offset) is None:
            is_over, memory = awaited is None or awaited.is_stop, Memory(time.time(), ticket.kind)
            for name in ticket.ends(offset, is_over=is_over, restarted=restarted):
                self._ledger.remember(name, memory)
                told.append(remembered(offset, name, *memory))
        self.leave(offset)
        return told

    def find(self, ids: Container[str]) -> tuple[dict[int, Record | None], list[int]]:
        """The records of tasks with these ids by offset, None for those not in memory; and the offsets of unknown tasks."""
        tickets = self._lanes.tickets()
        found = {offset: self._kept.get(offset) for offset, ticket in tickets if ticket.run.task_id in ids}
        return found, [offset for offset, ticket in tickets if ticket.run == _UNREAD]

    def views(self, held_here: Container[int | None]) -> list[LaneView]:
        """The lanes in which records wait or run, or that wait for a run. ``held_here``: the offsets that run here."""
        holds = self._ledger.holds
        waiting = {**dict.fromkeys(holds, 0), **dict(self._lanes.lanes())}
        return [LaneView(lane, count, holds.get(lane), self.next(lane) in held_here) for lane, count in waiting.items()]
