"""One partition of a work queue, as one process knows it: which of its tasks may begin here, and when.

:class:`Partition` is a fold of all that the process hears of it: records that were read, begins and ends here, the journal,
and the coming and going of the partition itself. It does nothing: :meth:`Partition.ready` returns the effects that
its executor must carry out, as raft's ``Ready`` does (etcd-io/raft, ``node.go``), :meth:`Partition.awaits` what must be
durable before a task runs, and :meth:`Partition.commit` what must be before a commit. Each record is in one state of
:mod:`~kafka_exec.core.queue.partition.states`.

If another incarnation may begin a task too (its owner grants it, or takes it back), the task is *contested*: the journal
decides. The incarnation whose begin comes first in the journal runs the task; the other one reads that before it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from kafka_exec.core.nodes.liveness import TrustWindow, grant
from kafka_exec.core.queue.lanes import UNREAD, Lane, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.partition.ends import free_lane
from kafka_exec.core.queue.partition.kept import R
from kafka_exec.core.queue.partition.parking import Standstill
from kafka_exec.core.queue.partition.records import BEGUN, Now, Ready, Records
from kafka_exec.core.queue.partition.states import RecordEvent, RecordState
from kafka_exec.core.queue.partition.trust import Trust
from kafka_exec.core.queue.transitions import ENDED, GRANTED, HELD, PARKED, RELEASED, STARTED, Lease, is_of
from kafka_exec.errors import NotConfirmed


class Partition(Records[R]):
    """A partition that this process owns, has owned, or runs granted tasks of. Not thread-safe.

    Args:
        ledger: the partition's ledger, as it was restored.
        incarnation: the incarnation of this process; empty: it keeps no journal, and heeds no other process.
        membership: the time for which the owner may trust that it still owns the partition, in steady time.
        remember: how long a second task of a deduplication id is dropped, seconds.
        period: seconds between two heartbeats.
        hears: returns True while this process hears the partition's journal.
        now: the present time.

    Attributes:
        owned: this process owns the partition now.
        term: how often the partition was lost; records handed out in an earlier term, and not begun, are read again.
        position: the next offset to read; -1 before the first.
    """

    def __init__(
        self,
        ledger: Ledger,
        incarnation: str,
        *,
        membership: TrustWindow,
        remember: float,
        period: float,
        hears: Callable[[], bool],
        now: Now,
    ) -> None:
        super().__init__(ledger, incarnation, remember, Trust(membership, hears, keeps_journal=bool(incarnation)))
        self.owned, self.term, self.position = True, 0, -1
        self._period = period
        self._standstill = Standstill()
        # The end of the records that were read since the partition came, and their last leader.
        self._furthest, self._epoch = 0, -1
        self._enter_parked(now)

    def ready(self) -> Ready[R] | None:
        """The effects of the inputs since the last call; None if there are none."""
        ready = self.effects
        if not (ready.told or ready.hand_out or ready.waits or ready.dropped):
            return None
        self.outbox.told = []
        self.effects = Ready(self.outbox.told)
        return ready

    # -- questions -----------------------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """The number of records that are handed out, or run here, and have not ended."""
        return self.open if self.owned else 0

    def may_run(self, offset: int, term: int, now: Now) -> bool:
        """True if this process may begin a task that it got in a term."""
        state = self.state(offset)
        is_granted = state is RecordState.GRANTED and self.grants[offset].is_open(now.log)
        return term == self.term and (state is RecordState.READY or is_granted)

    def needs_journal(self) -> bool:
        """True if the transitions of others matter: they may run tasks, or tell the end of one that runs here again."""
        has_rivals = bool(self.contested) or any(self.attempts(offset) > 1 for offset in self.running)
        is_behind = self.inherits or bool(self.ledger.unheard)
        return has_rivals or (self.owned and (is_behind or bool(self.leases_elsewhere())))

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, offset: int, ticket: Ticket | None, record: R, now: Now, epoch: int = 0) -> None:
        """Notes a record that was read.

        Args:
            epoch: the number of the leader that has written it. If the log was truncated, since a leader without the last
                records was elected, its records are read again, and those of a later leader are other ones than before.
        """
        if offset < self._furthest and epoch > self._epoch:
            self.void(offset, now)
            self._furthest = offset
        self._furthest, self._epoch = max(self._furthest, offset + 1), max(self._epoch, epoch)
        self.position = offset + 1
        if not self.ledger.progress.receive(offset):
            return
        if ticket is not None:
            self.lanes.enter(offset, ticket)
        self.happens(offset, self.arrival(offset, now), now, record)
        self._go_on(now)

    def reach(self, end: int) -> None:
        """Notes that all records before ``end`` were read. Offsets at which a consumer sees no record count as ended."""
        self.position = max(self.position, end)
        self.inherited = end if self.inherited is None else self.inherited
        self.uncommitted |= self.ledger.progress.reach(end)

    def found(self, offset: int, ticket: Ticket | None, record: R, now: Now) -> None:
        """Notes a wanted record that was read again."""
        self.kept.wanted.discard(offset)
        if self.state(offset) is not RecordState.WAITING:
            return
        self.kept.keep(offset, record, anyway=True)
        if (known := self.lanes.ticket(offset)) is None:
            if ticket is not None:  # another incarnation has begun it since it was read
                self.lanes.enter(offset, ticket)
            self.happens(offset, self.arrival(offset, now), now)
        else:
            self.lanes.know(offset, (ticket or known)._replace(lane=known.lane))
            self.lanes_to_go_on.append(known.lane)
        self._go_on(now)

    def missing(self, offset: int, now: Now) -> None:
        """Notes that Kafka has a wanted record no more: it counts as ended."""
        self.kept.wanted.discard(offset)
        if self.state(offset) is RecordState.WAITING:
            self._end_deleted(offset, now)

    # -- running -------------------------------------------------------------------------------------------------------

    def deliver(self, offset: int, term: int, now: Now) -> bool | None:
        """Notes that a consumer gets a record. Returns True if one may have had it before, None if it must not be given."""
        if not self.may_run(offset, term, now):
            self.happens(offset, RecordEvent.LATE, now)
            self._go_on(now)
            return None
        return self.ledger.progress.deliver(offset) or self.attempts(offset) > 0

    def begin(self, offset: int, term: int, now: Now) -> bool:
        """Notes that a task begins here. Returns False if it must not.

        Raises:
            NotConfirmed: this process was stopped for long, and will know only soon if it still owns the partition.
        """
        if self.owned and not self.trust.is_owner(now.steady):
            raise NotConfirmed("whether its partition is still this worker's is not known yet")
        if not self.may_run(offset, term, now):
            self.happens(offset, RecordEvent.LATE, now)
            self._go_on(now)
            return False
        if self.owned and self.inherits and self.trust.lacks_news():  # the end that a former owner has told
            self.contested.setdefault(offset, None)
        self.happens(offset, RecordEvent.BEGIN, now)
        return True

    def confirm(self, offset: int, term: int, now: Now) -> bool | None:
        """Notes that a task begun in a term is about to run: what it :meth:`awaits` is durable, and it is not undecided.

        Returns:
            False if it must not run: the partition was lost since, another incarnation has begun the task first, or it was
            deleted. None if its begin is told anew, since this process was stopped for long: it :meth:`awaits` that.
        """
        if term != self.term:
            return False  # the record may have been read again, and begun
        may_have_ended = self.owned and (self.inherits or self.attempts(offset) > 1)
        if (rival := self.contested.get(offset)) is not None or self.ledger.has_ended(offset):
            self.happens(offset, RecordEvent.YIELD if self.owned else RecordEvent.GIVE_BACK, now)
            if self.ledger.has_ended(offset):
                self.happens(offset, RecordEvent.ENDED_ELSEWHERE, now)
            elif self.owned and rival is not None:
                self.ledger.leases[offset] = rival
            self._go_on(now)
        elif may_have_ended and self.state(offset) is RecordState.BEGINNING and self.trust.is_begin_old(offset):
            self.contested[offset] = None
            self.happens(offset, RecordEvent.BEGIN, now)
            return None
        self.begins.settle(offset)
        self.happens(offset, RecordEvent.CONFIRM, now)
        return self.state(offset) is RecordState.RUNNING

    def start_by(self, offset: int, now: Now) -> float:
        """The steady time by which a confirmed run must have started: another process may begin it later, or end it."""
        if (window := self.grants.get(offset)) is not None:
            return now.steady + (window.until or now.log) - now.log
        may_end_elsewhere = self.inherits or self.attempts(offset) > 1
        return min(self.trust.until or now.steady, now.steady + self._period if may_end_elsewhere else inf)

    def will_end(self, offset: int, awaits: Callable[[Ticket], Run]) -> None:
        """Notes that a running task will hold its lane at its end. ``awaits`` makes the run that the lane waits for then."""
        if (ticket := self.running.get(offset)) is not None:
            self.awaited[offset] = awaits(ticket)

    def purge(self, now: Now) -> None:
        """Ends all records that have not begun, since the queue was purged."""
        for offset in self.not_begun():
            self._end_deleted(offset, now)

    def _end_deleted(self, offset: int, now: Now) -> None:
        self.ledger.attempts.pop(offset, None)  # no run has ended it: a retry that a lost run has sent is no copy
        self.end(offset, now)

    def end(self, offset: int, now: Now) -> None:
        """Notes that a task has ended, also if another process owns the partition by now."""
        self.happens(offset, RecordEvent.END, now)
        self._go_on(now)

    def put_back(self, offset: int, term: int, now: Now) -> bool:
        """Notes that a task runs no more and has not ended. Returns True if this process may begin it again."""
        state = self.state(offset)
        if state is RecordState.READY:
            return term == self.term
        if state in BEGUN and self.owned:
            self.happens(offset, RecordEvent.END if self.ledger.has_ended(offset) else RecordEvent.PUT_BACK, now)
            if self.lease_elsewhere(offset):  # this process was taken for lost meanwhile
                self.happens(offset, RecordEvent.LEASE, now)
        else:
            self.happens(offset, RecordEvent.GIVE_BACK, now)
        self._go_on(now)
        return self.state(offset) is RecordState.READY

    # -- sharing -------------------------------------------------------------------------------------------------------

    def give(self, offset: int, term: int, ticket: Ticket | None, record: R, incarnation: str, now: Now) -> int | None:
        """Gives a task to another incarnation. Returns how often it was begun; None if this process may not give it."""
        is_ours = term == self.term and self.owned and self.state(offset) is RecordState.READY
        if not self._incarnation or not is_ours or not self.trust.is_owner(now.steady):
            return None
        if ticket is not None:
            self.lanes.enter(offset, ticket)  # a retry that its run sends comes behind it, should that run be lost
        self.ledger.grant(offset, incarnation)
        self.happens(offset, RecordEvent.GIVE, now, record)
        return self.attempts(offset)

    def accept(self, offset: int, ticket: Ticket | None, record: R, *, attempts: int, at: float, now: Now) -> None:
        """Notes a task that another owner gives to this process. The journal was heard up to the grant.

        Args:
            attempts: how often the task was begun.
            at: the log time of the grant.
        """
        if self.owned or self.state(offset) is not RecordState.UNREAD or self.lease_elsewhere(offset):
            return
        self.grants[offset] = grant(self._period)
        self.grants[offset].open(at)
        self.contested[offset] = None
        self.ledger.accept(offset, attempts)
        if ticket is not None:
            self.lanes.enter(offset, ticket)
        self.happens(offset, RecordEvent.ACCEPT, now, record)

    def strays(self, now: Now) -> set[int]:
        """The tasks that heartbeats must name: they run, or will run, here, and another process owns the partition."""
        given = {each for each, window in self.grants.items() if each in self.running or window.is_open(now.log)}
        return given if self.owned else given.union(self.running)

    # -- the journal ---------------------------------------------------------------------------------------------------

    def hear(self, value: bytes | None, now: Now) -> bool:
        """Folds a record of the journal, in the order of the log. Returns False if it is none.

        This process knows already all that it has told itself. Its own records only decide which of two begins came first.
        """
        if is_of(value, self._incarnation):
            self.hear_own(value)
            return True
        held = list(self.ledger.holds)
        # What a former owner has parked late, this process has read already, or will read in its order.
        if (heard := self.ledger.apply(value, but=PARKED)) is None:
            return False
        self.lanes_to_go_on += [lane for lane in held if lane not in self.ledger.holds]
        for each, incarnation in heard:
            self.uncommitted = True
            rival = Lease(incarnation, each.attempt)
            if each.kind == ENDED:
                self.happens(each.offset, RecordEvent.ENDED_ELSEWHERE, now, rival=rival)
            elif each.kind == STARTED and (each.offset in self.running or self.lease_elsewhere(each.offset)):
                self.happens(each.offset, RecordEvent.LEASE, now, rival=rival)
            elif each.kind == GRANTED and self.lease_elsewhere(each.offset):
                self.happens(each.offset, RecordEvent.LEASE, now)
            elif each.kind in (RELEASED, GRANTED):  # a former owner may have granted it to this process
                self._look_again(each.offset, now)
            elif each.kind == HELD and self.owned:
                self.overrule(each)
        self._go_on(now)
        return True

    def reclaim(self, offset: int, lease: Lease, now: Now) -> None:
        """Notes that another incarnation with this lease is lost, or has ceased to run the task."""
        if self.ledger.leases.get(offset) == lease:
            self.ledger.release(offset)
            # It may begin the task all the same, if it was only stopped.
            self.contested[offset] = None
            self._look_again(offset, now)
            self._go_on(now)

    def _look_again(self, offset: int, now: Now) -> None:
        if self.state(offset) is RecordState.ELSEWHERE and not self.lease_elsewhere(offset):
            # What it gives back may have been given to it again meanwhile, so that it begins the task all the same.
            self.contested[offset] = None
            is_absent = offset not in self.kept
            self.happens(offset, RecordEvent.ABSENT if is_absent else self.arrival(offset, now), now)

    # -- lanes ---------------------------------------------------------------------------------------------------------

    def free(self, lane: Lane, now: Now) -> bool:
        """Frees a held lane. Returns False if it is not held here, or the run that it waits for is under way."""
        awaited = self.lanes.next(lane, self.ledger.holds)
        is_awaited = awaited is None or self.state(awaited) is RecordState.WAITING
        if not self.owned or lane not in self.ledger.holds or not is_awaited:
            return False
        self.outbox.tell(*free_lane(self.ledger, lane, at=now.log))
        self.lanes_to_go_on.append(lane)
        self._go_on(now)
        return True

    def park(self, now: Now) -> None:
        """Parks the records of held lanes that have kept the commit back for long, so that it can go on."""
        low, holds = self.ledger.progress.low, self.ledger.holds
        is_long = self._standstill.is_long(low, now.steady)
        if not (is_long and self._incarnation and self.owned and self.trust.is_owner(now.steady)):
            return
        if self.lanes.is_blocked(low, holds):
            self.park_blocked()

    def _go_on(self, now: Now) -> None:
        """Hands out the next records of the lanes that records have left."""
        while self.lanes_to_go_on:
            lane = self.lanes_to_go_on.pop()
            offset = self.lanes.next(lane, self.ledger.holds) if self.owned else None
            if offset is None or self.state(offset) is not RecordState.WAITING:
                continue
            if (after := self.lanes.after(lane)) is not None and after not in self.kept:
                self.kept.wanted.add(after)
            self.happens(offset, self.arrival(offset, now) if offset in self.kept else RecordEvent.ABSENT, now)

    def _enter_parked(self, now: Now) -> None:
        """Puts parked records into their lanes, and has the next record of each lane read again."""
        self.ledger.unpark()
        for offset, lane in sorted(self.ledger.parked.items()):
            self.lanes.enter(offset, Ticket(lane, UNREAD))
            self.wait(offset)
        self.lanes_to_go_on += dict.fromkeys(self.ledger.parked.values())
        self._go_on(now)

    # -- owning --------------------------------------------------------------------------------------------------------

    def close(self, now: Now) -> None:
        """Hands out and begins no more tasks; those that do not run yet are left to the new owner."""
        self.owned = False
        self.all(RecordEvent.CLOSE, now)

    def lose(self, now: Now) -> None:
        """Notes that this process does not own the partition any more."""
        self.owned = False
        self.term += 1
        self.all(RecordEvent.LOSE, now)
        self.outbox.forget_commit()
        self.begins.give_up()
        self.contested.clear()
        self.forget_lanes()

    def own(self, restored: Ledger, now: Now) -> None:
        """Owns the partition again: adds to a restored ledger the ends, and the transitions, that this process knows."""
        restored.expect(self.outbox.kept(), self._incarnation)
        # What it has parked waits, unless the restored ledger has it parked: another owner may have read it again since.
        restored.merge(self.ledger.progress.without(self.ledger.parked), {})
        self.decide(restored)
        self.ledger, self.position, self.owned = restored, -1, True
        self._furthest, self._epoch, self.inherited = 0, -1, None
        self.forget_lanes()
        self.all(RecordEvent.OWN, now)
        self._enter_parked(now)

    # -- commits -------------------------------------------------------------------------------------------------------

    def commit(self, is_durable: Callable[[int], bool]) -> tuple[int, str] | None:
        """The offset to commit, and its metadata; None while the journal lacks what the commit needs.

        Args:
            is_durable: returns True if all groups of :attr:`Ready.told` up to a number are durable.
        """
        was_made_before = self.outbox.has_commit
        commit = self.outbox.commit(self.ledger, is_durable)
        self.uncommitted = commit is None or was_made_before
        return commit
