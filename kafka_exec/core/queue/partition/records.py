"""The states of a partition's records, and the actions of their table."""

from __future__ import annotations

from collections.abc import Container, Iterable
from contextlib import suppress
from typing import Generic, NamedTuple

from kafka_exec.core.nodes.liveness import TrustWindow
from kafka_exec.core.queue.lanes import UNREAD, Lane, Lanes, LaneView, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.partition.begins import Begins
from kafka_exec.core.queue.partition.ends import denied, end
from kafka_exec.core.queue.partition.kept import Kept, R
from kafka_exec.core.queue.partition.outbox import Outbox
from kafka_exec.core.queue.partition.parking import to_park
from kafka_exec.core.queue.partition.states import TABLE, Action, RecordEvent, RecordState
from kafka_exec.core.queue.partition.trust import Trust
from kafka_exec.core.queue.transitions import (
    ENDED,
    RELEASED,
    STARTED,
    Lease,
    Memory,
    Transition,
    granted,
    object_of,
    parked,
    transitions_of,
)

#: The states of a record that is handed out, or runs here, while its partition is owned.
_OPEN = frozenset({RecordState.READY, RecordState.BEGINNING, RecordState.RUNNING})

#: The states of a record that has begun here.
BEGUN = frozenset({RecordState.BEGINNING, RecordState.RUNNING})

#: The states of a record that another owner has given to this process.
_STILL_HERE = BEGUN | {RecordState.GRANTED}

#: The states of a record that another incarnation may begin at the same time.
_MAY_BE_CONTESTED = frozenset({RecordState.WAITING, RecordState.READY, RecordState.GRANTED, RecordState.BEGINNING})


#: The states of a record whose reservation, or begin, may have to be awaited.
_MAY_BE_RESERVED = frozenset({RecordState.READY, RecordState.BEGINNING})


class Now(NamedTuple):
    """The time, by both clocks of a process.

    Attributes:
        steady: seconds of a clock that goes on while the process is stopped.
        log: the brokers' time, epoch seconds, as far as the process knows it.
    """

    steady: float
    log: float


class Ready(Generic[R]):
    """The effects of a partition's inputs, which its executor must carry out in this order.

    Attributes:
        told: transitions to write into the journal; each group in one record, and numbered from 1 on.
        hand_out: records to hand out.
        waits: records that were read, and wait for others of their lane.
        dropped: the offsets of copies of a task that has ended, and the name of their task if that is another one.
    """

    def __init__(self, told: list[tuple[Transition, ...]]) -> None:
        self.told = told
        self.hand_out: list[R] = []
        self.waits: list[R] = []
        self.dropped: list[tuple[int, str]] = []


class Records(Generic[R]):
    """The records of a partition that are known, and not ended. Not thread-safe.

    Args:
        ledger: the partition's ledger.
        incarnation: the incarnation of this process; empty: it keeps no journal, and heeds no other process.
        remember: how long a second task of a deduplication id is dropped, seconds.
        trust: the trust of this process in what it knows.

    Attributes:
        running: the tasks that have begun here, with their places in lanes, which outlast the loss of the partition.
        awaited: the runs that lanes will wait for, by the tasks at whose ends they begin to wait.
        grants: the time for which granted tasks may begin, in log time.
        contested: the tasks that another incarnation may begin at the same time, and its lease if it has.
        lanes_to_go_on: the lanes that records have left.
        open: the number of records that are handed out, or run here.
        uncommitted: a task has ended since the last commit was made.
        inherited: the end of the records that were there when the partition came; None: they are not read yet.
    """

    def __init__(self, ledger: Ledger, incarnation: str, remember: float, trust: Trust) -> None:
        self.ledger = ledger
        self.outbox = Outbox(incarnation)
        self.effects: Ready[R] = Ready(self.outbox.told)
        self.lanes = Lanes()
        self.kept: Kept[R] = Kept()
        self.begins = Begins()
        self.running: dict[int, Ticket | None] = {}
        self.awaited: dict[int, Run] = {}
        self.grants: dict[int, TrustWindow] = {}
        self.contested: dict[int, Lease | None] = {}
        self.lanes_to_go_on: list[Lane] = []
        self.open = 0
        self.uncommitted = False
        self.inherited: int | None = None
        self.trust = trust
        self._incarnation = incarnation
        self._remember = remember
        self._states: dict[int, RecordState] = {}

    def state(self, offset: int) -> RecordState:
        """The state of a record."""
        found = self._states.get(offset)
        if found is not None:
            return found
        return RecordState.ENDED if self.ledger.has_ended(offset) else RecordState.UNREAD

    @property
    def wanted(self) -> set[int]:
        """The offsets of records that wait, are needed soon, and must be read again."""
        return self.kept.wanted

    @property
    def needed(self) -> int:
        """The lowest offset of the queue that a new owner needs."""
        return min(self.ledger.needed, self.outbox.needed)

    def wait(self, offset: int) -> None:
        """Notes that a record waits that a former owner has parked."""
        self._states.setdefault(offset, RecordState.WAITING)

    def all(self, event: RecordEvent, now: Now) -> None:
        """Lets an event happen to all records."""
        for offset in list(self._states):
            self.happens(offset, event, now)

    def not_begun(self) -> list[int]:
        """The records that wait, or are handed out, in the order of their offsets."""
        known = self._states.items()
        return sorted(offset for offset, state in known if state in (RecordState.WAITING, RecordState.READY))

    def void(self, offset: int, now: Now) -> None:
        """Forgets the records from an offset on that do not run here: the log has others there."""
        for each in [known for known in self._states if known >= offset]:
            self.happens(each, RecordEvent.LOSE, now)
            self.lanes.leave(each)
            self.kept.forget(each)
        self.ledger.void(offset)

    def miss_journal(self) -> None:
        """Notes that records of the journal were not heard: it was not followed for a while, or they were deleted.

        The leases that it has told may be over, and another incarnation may have begun what is undecided.
        """
        self.ledger.forget_all_but(self.running)
        self.contested = {each: rival or Lease("", 0) for each, rival in self.contested.items()}

    def forget_lanes(self) -> None:
        """Forgets the places of all records, but for those that have begun here."""
        self.lanes, self.kept = Lanes(), Kept()
        for offset, ticket in sorted(self.running.items()):
            if ticket is not None:
                self.lanes.enter(offset, ticket)

    def lease_elsewhere(self, offset: int) -> bool:
        """True if another incarnation has a task's lease. Only a process that keeps a journal heeds leases."""
        lease = self.ledger.leases.get(offset)
        return lease is not None and self._incarnation not in ("", lease.incarnation)

    def has_given(self, offset: int, lease: Lease) -> bool:
        """True if a task that was given to another incarnation was neither taken back nor ended since."""
        return self.ledger.leases.get(offset) == lease

    def may_have_begun(self, offset: int) -> bool:
        """True if a run of a task may have sent a retry: it was begun, or another incarnation has its lease."""
        return self.ledger.attempts.get(offset, 0) > 0 or self.lease_elsewhere(offset)

    @property
    def inherits(self) -> bool:
        """True if a former owner may run tasks: all that was there when the partition came."""
        return self.inherited is None or self.ledger.progress.low < self.inherited

    def leases_elsewhere(self) -> list[tuple[int, Lease]]:
        """The leases of other incarnations, each with its offset."""
        self.ledger.tidy()
        for offset in [each for each in self.contested if self.state(each) is RecordState.ENDED]:
            del self.contested[offset]
        leases = self.ledger.leases.items()
        return [(offset, lease) for offset, lease in leases if lease.incarnation != self._incarnation]

    def is_undecided(self, offset: int) -> bool:
        """True if another incarnation may have told its begin of a task before this one has."""
        return offset in self.contested and self.contested[offset] is None

    def awaits(self, offset: int, *, surely: bool = False) -> int | None:
        """The number of the transitions that must be durable before a begun task runs; None if none must be (``surely``)."""
        return self.begins.awaits(offset) or (self.outbox.number if surely else None)

    def hear_own(self, value: bytes | None) -> None:
        """Notes a record of the journal that this process has written: that comes first if no other one came before."""
        for each, _ in transitions_of(object_of(value)) if self.contested or self.ledger.unheard else ():
            if each.kind == ENDED:
                self.ledger.unheard.discard(each.offset)
            is_awaited = each.kind == STARTED and self.is_undecided(each.offset) and self.state(each.offset) in BEGUN
            if is_awaited and self.trust.hear_own(each.offset, each.attempt):
                del self.contested[each.offset]

    def decide(self, restored: Ledger) -> None:
        """Decides which begins came first: this process hears no more of its own ones that the restored ledger holds."""
        for offset in [each for each in self.contested if self.is_undecided(each) and self.state(each) in BEGUN]:
            self.contested[offset] = lease = restored.leases.get(offset, Lease("", 0))
            if lease.incarnation == self._incarnation:
                del self.contested[offset]

    def overrule(self, hold: Transition) -> None:
        """Denies in the journal what another process has told: that a lane waits for a run, which it does not here."""
        with suppress(ValueError, TypeError):  # a later version has written it
            if told := denied(self.ledger, hold):
                self.outbox.tell(*told)

    def attempts(self, offset: int) -> int:
        """The number of times that a task was begun."""
        return self.ledger.attempts.get(offset, 0)

    def arrival(self, offset: int, now: Now) -> RecordEvent:
        """The event that it is for a record to be read, or to have its turn."""
        if self.lease_elsewhere(offset):
            return RecordEvent.TAKEN
        ticket = self.lanes.ticket(offset)
        if not self.lanes.may_run(offset, self.ledger.holds) or self._is_beside_another(offset, ticket):
            return RecordEvent.BEHIND
        return RecordEvent.FIRST if ticket is None or self._original(ticket, now) is None else RecordEvent.COPY

    def _is_beside_another(self, offset: int, ticket: Ticket | None) -> bool:
        """True if another record of its lane has begun here, which must end first.

        Its lane may go on nonetheless: a former run of that one has told its end late, or the lane was freed.
        """
        if ticket is None or self.lanes.after(ticket.lane) is None:
            return False
        begun = self.running.items()
        return any(each != offset and other is not None and other.lane == ticket.lane for each, other in begun)

    def _original(self, ticket: Ticket, now: Now) -> Memory | None:
        """The remembered end of the task of which a record is a copy; None if it is no copy."""
        return None if ticket.once is None else self.ledger.recall(ticket.once, now.log - self._remember)

    # -- the table's use -----------------------------------------------------------------------------------------------

    def park_blocked(self) -> None:
        """Parks the records that wait in held lanes, as far as there is room."""
        for lane, offsets in to_park(self.lanes.blocked(self.ledger.holds), self.ledger.parked).items():
            self.ledger.park(lane, offsets)
            self.outbox.tell(parked(lane, offsets))
            self.uncommitted = True

    def places(self, offsets: Iterable[int]) -> dict[int, int]:
        """The number of records before each of these in its lane, for those that wait in lanes of ordering keys."""
        tickets = {each: ticket for each in offsets if (ticket := self.lanes.ticket(each)) is not None}
        lanes = {ticket.lane for ticket in tickets.values() if ticket.lane.kind == "key"}
        places = {lane: self.lanes.places(lane, self.ledger.holds) for lane in lanes}
        found = {each: places[ticket.lane][each] for each, ticket in tickets.items() if ticket.lane in lanes}
        return {each: place for each, place in found.items() if place}

    def views(self) -> list[LaneView]:
        """The lanes in which records wait or run, or that wait for a run."""
        return self.lanes.views(self.ledger.holds, self.running)

    def waiting(self, ids: Container[str]) -> tuple[dict[int, R | None], set[int]]:
        """The tasks with these ids that wait in lanes, with their records, None for those not in memory; and the offsets of
        parked records that were not read again, of any task.
        """
        tickets = self.lanes.tickets()
        waiting = [(offset, ticket) for offset, ticket in tickets if self.state(offset) is RecordState.WAITING]
        found = {offset: self.kept.get(offset) for offset, ticket in waiting if ticket.run.task_id in ids}
        return found, {offset for offset, ticket in waiting if ticket.run == UNREAD}

    def happens(
        self, offset: int, event: RecordEvent, now: Now, record: R | None = None, *, rival: Lease | None = None
    ) -> None:
        """Lets an event happen.

        Args:
            record: the record, if it comes with the event.
            rival: the lease of another incarnation that tells of the task.
        """
        before = self.state(offset)
        move = TABLE[before, event]
        for do in move.actions:
            if do is Action.HAND_OUT:
                self._hand_out(offset, record)
            elif do is Action.KEEP and record is not None:
                self._keep(offset, record, is_waiting=event is RecordEvent.BEHIND)
            elif do is Action.NOTE_RIVAL:
                # An end counts in any case, and a begin only if it may have come first.
                if event is RecordEvent.ENDED_ELSEWHERE or self.is_undecided(offset):
                    self.contested[offset] = rival
            else:
                self._do(do, offset, now, is_copy=event is RecordEvent.COPY)
        if move.state is not before:
            self._change(offset, before, move.state)

    def _do(self, do: Action, offset: int, now: Now, *, is_copy: bool) -> None:
        if do is Action.RESERVE:
            self._reserve(offset)
        elif do is Action.TELL_STARTED:
            self._start(offset)
        elif do is Action.TELL_ENDED:
            self._finish(offset, now, is_copy=is_copy)
        elif do is Action.TELL_GRANTED:
            self.begins.forget(offset)
            self.outbox.tell(granted(offset, self.ledger.leases[offset]))
        elif do is Action.TELL_RELEASED or (do is Action.UNRESERVE and self.begins.is_reserved(offset)):
            self.begins.forget(offset)
            told = Transition(RELEASED, offset, self.attempts(offset))
            self.ledger.fold([told], self._incarnation)  # another incarnation may have the lease by now, and keeps it
            self.outbox.tell(told)
        elif do is Action.FETCH:
            self.kept.wanted.add(offset)
        elif do is Action.LEAVE:
            if (ticket := self.running.get(offset) or self.lanes.ticket(offset)) is not None:
                self.lanes.leave(offset)
                self.lanes_to_go_on.append(ticket.lane)
            self.kept.forget(offset)

    def _change(self, offset: int, before: RecordState, after: RecordState) -> None:
        self.open += (after in _OPEN) - (before in _OPEN)
        if after in (RecordState.UNREAD, RecordState.ENDED):
            self._states.pop(offset, None)
        else:
            self._states[offset] = after
        if before in BEGUN and after not in BEGUN:
            self.running.pop(offset, None)
            self.trust.forget(offset)
            self.awaited.pop(offset, None)
        if after not in _MAY_BE_RESERVED:
            self.begins.forget(offset)
        if self.grants and after not in _STILL_HERE:
            self.grants.pop(offset, None)
        if self.contested and after not in _MAY_BE_CONTESTED:
            self.contested.pop(offset, None)

    def _hand_out(self, offset: int, record: R | None) -> None:
        if record is None:
            record = self.kept.get(offset)
        self.kept.forget(offset)
        if record is not None:
            self.effects.hand_out.append(record)

    def _keep(self, offset: int, record: R, *, is_waiting: bool) -> None:
        self.kept.keep(offset, record, anyway=not is_waiting)
        if is_waiting:
            self.effects.waits.append(record)

    def _reserve(self, offset: int) -> None:
        """Writes ahead that a task will begin here, if that must be durable before it runs: so its begin need not wait."""
        ticket = self.lanes.ticket(offset)
        if self._incarnation and ticket is not None and ticket.keeps_place:
            lease = self.ledger.grant(offset, self._incarnation)
            self.begins.reserve(offset, self.outbox.tell(granted(offset, lease)))

    def _start(self, offset: int) -> None:
        ticket = self.running[offset] = self.lanes.ticket(offset)
        if not self._incarnation:
            return
        lease = self.ledger.start(offset, self._incarnation)
        self.trust.begin(offset, lease.attempt)
        self.begins.begin(
            offset,
            self.outbox.tell(Transition(STARTED, offset, lease.attempt)),
            has_lane=ticket is not None and ticket.keeps_place,
            attempts=lease.attempt,
            is_contested=offset in self.contested,
        )

    def _finish(self, offset: int, now: Now, *, is_copy: bool) -> None:
        # The place of a run is that of its begin: the record may have been read anew since.
        ticket = self.running[offset] if offset in self.running else self.lanes.ticket(offset)
        if is_copy and ticket is not None and (original := self._original(ticket, now)) is not None:
            self.effects.dropped.append((offset, "" if original.task in ("", ticket.kind) else ticket.task))
        self.begins.forget(offset)
        self.uncommitted = True
        awaited = self.awaited.get(offset)
        self.outbox.tell(*end(self.ledger, offset, ticket, awaited, at=now.log, is_copy=is_copy))
