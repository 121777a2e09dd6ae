"""The records of one partition that wait in lanes, and what their ends mean for those behind them."""

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

#: Of all that waits, so many bytes are held in memory; the rest are offsets, and read again when their turn comes.
_MOST_BYTES = 512 * 1024

#: What a record takes beside its value, bytes.
_OVERHEAD = 1024

#: Of so many that have come to wait it is told that they do.
_MOST_NEWCOMERS = 10_000

#: The run of a record that is parked and was not read again.
_UNREAD = Run("", 0)


class LaneView(NamedTuple):
    """What is to be told of a lane.

    Attributes:
        waiting: how many of its records have not ended.
        hold: the run that it waits for; None: it flows.
        runs: its head is being run here.
    """

    lane: Lane
    waiting: int
    hold: Run | None
    runs: bool


class Newcomer(NamedTuple):
    """A record that waits since a moment, with what is to be told of it.

    Attributes:
        timestamp: when it was written, epoch seconds.
        place: how many come before it in its lane.
    """

    offset: int
    headers: Headers
    timestamp: float
    place: int = 0


class Queued:
    """Not thread-safe.

    Args:
        ledger: of the partition; it keeps what lanes wait for, and what is to be dropped if it comes again.
        remember: for how long that is dropped, seconds.

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
        """A record was read."""
        self._lanes.enter(offset, ticket)

    def enter_parked(self) -> list[Lane]:
        """Those that were parked have their places, though nothing is read of them yet; their lanes."""
        for offset, lane in sorted(self._ledger.parked.items()):
            self._lanes.enter(offset, Ticket(lane, _UNREAD))
        return list(dict.fromkeys(self._ledger.parked.values()))

    def know(self, offset: int, ticket: Ticket) -> None:
        """A record was read again."""
        self._lanes.know(offset, ticket)

    def park(self, low: int) -> list[Transition]:
        """Parks what waits in held lanes, if that holds the commit back; what is to be told.

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
        """Whether no other record comes before this one."""
        return self._lanes.may_run(offset, self._ledger.holds)

    def next(self, lane: Lane) -> int | None:
        """The record of a lane that may run; None if none may."""
        return self._lanes.next(lane, self._ledger.holds)

    def original(self, offset: int) -> Memory | None:
        """What has ended in place of a record."""
        ticket = self._lanes.ticket(offset)
        since = time.time() - self._remember
        return None if ticket is None or ticket.once is None else self._ledger.recall(ticket.once, since)

    def wait(self, record: Record) -> None:
        """A record must wait for others of its lane."""
        self.keep(record)
        self._newcomers.append(Newcomer(record.offset(), record.headers() or [], record.timestamp()[1] / 1000))

    def newcomers(self) -> list[Newcomer]:
        """Which records of ordering keys have come to wait since the last call, and still do; of very many the last."""
        tickets = [(each, self._lanes.ticket(each.offset)) for each in self._newcomers]
        self._newcomers.clear()
        waiting = [(each, ticket.lane) for each, ticket in tickets if ticket is not None and ticket.lane.kind == "key"]
        places = {lane: self._lanes.places(lane, self._ledger.holds) for _, lane in waiting}
        found = [each._replace(place=places[lane][each.offset]) for each, lane in waiting]
        return [each for each in found if each.place]

    def keep(self, record: Record, *, anyway: bool = False) -> None:
        """Holds a record that waits, if there is room."""
        if anyway or self._bytes < _MOST_BYTES:
            self._kept[record.offset()] = record
            self._bytes += len(record) + _OVERHEAD

    def take(self, offset: int) -> Record | None:
        """A record whose turn has come; None if it must be read again. The one after it will soon be needed too."""
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
        """A record has ended, or is another's to run."""
        self._lanes.leave(offset)
        self.wanted.discard(offset)
        if (record := self._kept.pop(offset, None)) is not None:
            self._bytes -= len(record) + _OVERHEAD

    # -- ends ----------------------------------------------------------------------------------------------------------

    def finish(self, offset: int, ticket: Ticket, awaited: Run | None, *, restarted: bool) -> list[Transition]:
        """A record ends, and its lane waits for a run, or goes on; what is to be told of it.

        Args:
            awaited: the run that it was sent anew for, or the stop of its lane.
            restarted: it was begun more than once.
        """
        told = []
        if awaited is not None and ticket.keeps_place:
            self._ledger.hold(ticket.lane, awaited)
            told.append(held(offset, ticket.lane, awaited))
        elif ticket.run.retries and ticket.keeps_place:
            # Told in any case: who runs another's task does not know what its lane waits for.
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
        """By their offsets the records of tasks with these ids, None those not held in memory; and those of unknown ids."""
        tickets = self._lanes.tickets()
        found = {offset: self._kept.get(offset) for offset, ticket in tickets if ticket.run.task_id in ids}
        return found, [offset for offset, ticket in tickets if ticket.run == _UNREAD]

    def views(self, held_here: Container[int | None]) -> list[LaneView]:
        """The lanes in which something waits or runs, or that wait for a run. ``held_here``: what is being run."""
        holds = self._ledger.holds
        waiting = {**dict.fromkeys(holds, 0), **dict(self._lanes.lanes())}
        return [LaneView(lane, count, holds.get(lane), self.next(lane) in held_here) for lane, count in waiting.items()]
