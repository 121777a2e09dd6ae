"""One partition of a work queue, as its owner knows it: the records that wait, that run, and that have ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container

from confluent_kafka import Message as Record

from kafka_exec.core.message.envelope import ticket_of
from kafka_exec.core.nodes.liveness import TrustWindow
from kafka_exec.core.queue.begins import Begins, must_be_told
from kafka_exec.core.queue.lanes import Lane, Run, Ticket
from kafka_exec.core.queue.ledger import ENDED, RELEASED, STARTED, Lease, Ledger, Transition, freed, granted
from kafka_exec.core.queue.parking import Standstill
from kafka_exec.core.worker.sharing import Grant, Guests
from kafka_exec.errors import NotConfirmed, Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.oddities import count
from kafka_exec.kafka.queue.journal import Journal
from kafka_exec.kafka.queue.queued import LaneView, Newcomer, Queued
from kafka_exec.kafka.queue.telling import Telling

logger = logging.getLogger("kafka_exec")


class OwnedPartition:
    """A partition that a reader owns, or has owned. Thread-safe.

    Args:
        ledger: the partition's ledger, as it was restored.
        start: the committed offset at which the partition was assigned.
        journal: the journal that the owner writes; None: ends of tasks are only committed.
        tenure: the time for which the owner may trust that it still owns the partition.
        remember: how long a second task of a deduplication id is dropped, seconds.
        on_free: called with a record that had to wait, and is to be handed out now. It must not block.

    Attributes:
        alive: this process owns the partition now.
        term: how often the partition was lost; records handed out in an earlier term, and not begun, are read again.
        position: the next offset to read; -1 before the first.
        uncommitted: a task has ended since the last commit was made.
        committed: the offset and metadata that were sent last.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        ledger: Ledger,
        start: int,
        journal: Journal | None,
        *,
        tenure: TrustWindow,
        remember: float,
        on_free: Callable[[Record, OwnedPartition], None],
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.alive = True
        self.term = 0
        self.start = start
        self.position = -1
        self.uncommitted = False
        self.committed: tuple[int, str] | None = None
        self._ledger = ledger
        self._journal = journal
        self._tenure = tenure
        self._incarnation = "" if journal is None else journal.incarnation
        self._remember = remember
        self._on_free = on_free
        # The tasks that this process has begun and not ended, each with its place in a lane.
        self._held: dict[int, Ticket | None] = {}
        # The tasks that the partition's owner has granted to this process.
        self._guests = Guests(0.0 if journal is None else journal.node.period)
        self._begins = Begins()
        # The runs that lanes will wait for, by the tasks at whose ends they begin to wait.
        self._awaited: dict[int, Run] = {}
        # The records that were read and wait in lanes.
        self._queued = Queued(ledger, remember)
        self._standstill = Standstill()
        self._telling = Telling(partition, journal)
        # The records that were read and that another worker runs.
        self._elsewhere: dict[int, Record] = {}
        # The records that were read in this term, run in no other worker, and have not ended.
        self._open: set[int] = set()
        self._lock = native.lock()
        self._find_parked()

    @property
    def outstanding(self) -> int:
        """The number of records that were read, run in no other worker, and have not ended."""
        return len(self._open)

    @property
    def is_held(self) -> bool:
        """True if this process has begun a task of the partition that has not ended."""
        return bool(self._held)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, record: Record) -> bool:
        """Notes a record that was read. Returns True if it is to be handed out, False if it has ended, runs, or waits."""
        offset = record.offset()
        with self._lock:
            ticket = self._ticket(record)
            self.position = offset + 1
            if not self._ledger.progress.receive(offset):
                return False
            if ticket is not None:
                self._queued.enter(offset, ticket)
            if offset in self._held:
                return False
            if self._lease_elsewhere(offset) is not None:
                self._elsewhere[offset] = record
                return False
            admitted = self._admit(record)
            if not admitted and ticket is not None:
                self._advance(ticket.lane)
            return admitted

    def _ticket(self, record: Record) -> Ticket | None:
        restarted = self.attempts(record.offset()) > 0
        try:
            return ticket_of(record.headers(), record.value(), self.topic, self.partition, restarted=restarted)
        except Exception:  # a record of no known kind must not keep those behind it from being read
            logger.exception(
                "record %s of partition %s of %s has no place", record.offset(), self.partition, self.topic
            )
            return None

    def reach(self, end: int) -> None:
        """Notes that all records before ``end`` were read. Offsets at which a consumer sees no record count as ended."""
        with self._lock:
            self.position = max(self.position, end)
            self.uncommitted |= self._ledger.progress.reach(end)

    # -- running -------------------------------------------------------------------------------------------------------

    def deliver(self, offset: int, term: int) -> bool | None:
        """Notes that a consumer gets a record. Returns True if one may have had it before, None if it must not be given."""
        with self._lock:
            if not self._may_run(offset, term):
                self._decline(offset)
                return None
            return self._ledger.progress.deliver(offset) or self.attempts(offset) > 0

    def attempts(self, offset: int) -> int:
        """The number of times that a task was begun."""
        return self._ledger.attempts.get(offset, 0)

    def begin(self, offset: int, term: int) -> bool:
        """Notes that this process begins a task. Returns False if it must not, since another worker has the task by now.

        Raises:
            NotConfirmed: this process was stopped for long, and will know only soon if it still owns the partition.
        """
        with self._lock:
            if not self._is_sure():
                raise NotConfirmed("whether its partition is still this worker's is not known yet")
            if not self._may_run(offset, term):
                self._decline(offset)
                return False
            ticket = self._held[offset] = self._queued.ticket(offset)
            if self._journal is not None:
                lease = self._ledger.start(offset, self._incarnation)
                self._begins.begin(
                    offset,
                    self._telling.tell(Transition(STARTED, offset, lease.attempt)),
                    has_lane=ticket is not None and ticket.keeps_place,
                    attempts=lease.attempt,
                    is_guest=offset in self._guests,
                )
            return True

    def await_told(self, offset: int, timeout: float) -> int | None:
        """Waits until a begun task may run. The begin of some tasks must be durable first, so that a new owner knows of it.

        Returns:
            A number that grows with each such begin in the partition, in whichever worker: an offset of the journal. None
            if the begin need not be durable.

        Raises:
            NotConfirmed: the begin is not durable within ``timeout`` seconds.
        """
        number = self._begins.awaits(offset)
        if self._journal is None or number is None:
            return None
        if not self._journal.await_durable(self.partition, number, timeout):
            raise NotConfirmed("Kafka has not taken down that its run begins")
        self._begins.settle(offset)
        return self._journal.written_to(self.partition)

    def end(self, offset: int) -> None:
        """Notes that a task has ended, even if another worker owns its partition by now."""
        with self._lock:
            ticket = self._held.pop(offset, None) or self._queued.ticket(offset)
            self._finish(offset, ticket)
            if ticket is not None:
                self._advance(ticket.lane)

    def will_end(self, offset: int, awaits: Callable[[Ticket], Run]) -> None:
        """Notes that a running task will hold its lane at its end. ``awaits`` makes the run that the lane waits for then."""
        if (ticket := self._held.get(offset)) is not None:
            self._awaited[offset] = awaits(ticket)

    def release(self, offset: int, term: int) -> bool:
        """Notes that a begun task runs no more and has not ended. Returns True if this process may begin it again."""
        with self._lock:
            if offset in self._held:
                del self._held[offset]
                self._awaited.pop(offset, None)
                self._begins.settle(offset)
            elif offset not in self._guests:
                return self._may_run(offset, term)
            self._give_back(offset)
            return self._may_run(offset, term)

    def _decline(self, offset: int) -> None:
        """Gives a granted task back that this process may not begin any more, so that its owner does not wait for it."""
        if offset in self._guests and offset not in self._held:
            self._give_back(offset)

    def _give_back(self, offset: int) -> None:
        if self._guests.forget(offset) and not self.alive:
            self._queued.leave(offset)
        self._ledger.release(offset)
        self._telling.tell(Transition(RELEASED, offset))

    def _finish(self, offset: int, ticket: Ticket | None) -> None:
        self._open.discard(offset)
        self._begins.forget(offset)
        self._guests.forget(offset)
        restarted = self.attempts(offset) > 1
        self._ledger.end(offset)
        self.uncommitted = True
        told = [Transition(ENDED, offset)]
        if ticket is not None:
            told += self._queued.finish(offset, ticket, self._awaited.pop(offset, None), restarted=restarted)
        self._telling.tell(*told)

    def may_run(self, offset: int, term: int) -> bool:
        """True if this process may begin a task that it read in a term."""
        with self._lock:
            return self._may_run(offset, term)

    def _may_run(self, offset: int, term: int) -> bool:
        # The owner grants a task only when no other task comes before it.
        has_turn = self._queued.may_run(offset) if self.alive else self._guests.may_begin(offset, time.monotonic())
        return (
            has_turn
            and term == self.term
            and offset not in self._held
            and not self._ledger.has_ended(offset)
            and self._lease_elsewhere(offset) is None
        )

    def _is_sure(self) -> bool:
        """False if this process may have lost the partition without notice. Without a journal no worker heeds the others."""
        return self._journal is None or not self.alive or self._tenure.is_open(time.monotonic())

    def _lease_elsewhere(self, offset: int) -> Lease | None:
        """The lease of another incarnation on a task. Only a process that keeps a journal heeds leases."""
        lease = self._ledger.leases.get(offset)
        return (
            lease
            if lease is not None and self._journal is not None and lease.incarnation != self._incarnation
            else None
        )

    # -- sharing -------------------------------------------------------------------------------------------------------

    def grant(self, record: Record, term: int, incarnation: str) -> Grant | None:
        """Gives a task that has not begun to another incarnation. Returns None if this process may not give it."""
        offset = record.offset()
        with self._lock:
            if self._journal is None or not self.alive or not self._is_sure() or not self._may_run(offset, term):
                return None
            lease = self._ledger.grant(offset, incarnation)
            self._begins.forget(offset)
            self._open.discard(offset)
            self._elsewhere[offset] = record
            self._telling.tell(granted(offset, lease))
            return Grant(incarnation, self.topic, self.partition, offset, lease.attempt)

    def accept(self, grant: Grant, record: Record, at: float) -> bool:
        """Notes a task that another owner has granted. Returns False if this process owns the partition by now, or has it.

        Args:
            at: when the grant came, seconds of :func:`time.monotonic`.
        """
        with self._lock:
            if self.alive or grant.offset in self._held or grant.offset in self._guests:
                return False
            self._guests.accept(grant.offset, at)
            self._ledger.release(grant.offset)
            if grant.attempts:
                self._ledger.attempts[grant.offset] = grant.attempts
            if (ticket := self._ticket(record)) is not None:
                self._queued.enter(grant.offset, ticket)
            return True

    # -- lanes -------------------------------------------------------------------------------------------------------

    def _admit(self, record: Record) -> bool:
        """Returns False if a record must not be handed out: then it waits in its lane, or is dropped as a copy."""
        offset = record.offset()
        if not self._queued.may_run(offset):
            self._queued.wait(record)
            return False
        if (original := self._queued.original(offset)) is not None:
            ticket = self._queued.ticket(offset)
            if ticket is not None and original.task not in ("", ticket.kind):
                logger.error(
                    "record %s of %s, a task %s, is dropped, since another task of the same deduplication id has ended: who "
                    "sends them must give each an id of its own",
                    offset,
                    self.topic,
                    ticket.task,
                )
            else:
                logger.info(
                    "record %s of %s was sent a second time, and the first has ended: dropped", offset, self.topic
                )
            self._finish(offset, ticket)
            return False
        self._open.add(offset)
        self._reserve(offset)
        return True

    def _reserve(self, offset: int) -> None:
        """Writes ahead that a task will begin here, if that must be durable before it runs: so its begin need not wait."""
        ticket = self._queued.ticket(offset)
        if self._journal is None or ticket is None:
            return
        if must_be_told(has_lane=ticket.keeps_place, attempts=1, is_guest=False):
            lease = self._ledger.grant(offset, self._incarnation)
            self._begins.reserve(offset, self._telling.tell(granted(offset, lease)))

    def _advance(self, lane: Lane) -> None:
        """Hands out the next record of a lane, unless it runs already."""
        while self.alive and (offset := self._queued.next(lane)) is not None:
            if offset in self._open or offset in self._held or offset in self._elsewhere:
                return
            if (record := self._queued.take(offset)) is None:
                return
            if self._admit(record):
                self._on_free(record, self)
                return

    def _find_parked(self) -> None:
        """Puts parked records into their lanes, and has the next record of each lane read again."""
        for lane in self._queued.enter_parked():
            self._advance(lane)

    def park(self) -> None:
        """Parks the records of held lanes that have kept the commit back for long, so that it can go on."""
        with self._lock:
            low, now = self._ledger.progress.low, time.monotonic()
            if self._journal is None or not self.alive or not self._standstill.is_long(low, now) or not self._is_sure():
                return
            for transition in self._queued.park(low):
                self._telling.tell(transition)
                self.uncommitted = True

    def newcomers(self) -> list[Newcomer]:
        """The records that have begun to wait in lanes of ordering keys since the last call, and still wait."""
        with self._lock:
            return self._queued.newcomers()

    def wanted(self) -> list[int]:
        """The offsets of records that wait in lanes, are needed soon, and must be read again."""
        with self._lock:
            return sorted(self._queued.wanted)

    def found(self, offset: int, record: Record | None) -> None:
        """Notes a wanted record that was read; None: Kafka has it no more."""
        with self._lock:
            ticket = self._queued.ticket(offset)
            self._queued.wanted.discard(offset)
            if ticket is None:
                return
            if record is None:
                self._finish(offset, ticket)
            else:
                self._queued.know(offset, (self._ticket(record) or ticket)._replace(lane=ticket.lane))
                if self._lease_elsewhere(offset) is not None:
                    self._elsewhere[offset] = record
                    return
                self._queued.keep(record, anyway=True)
            self._advance(ticket.lane)

    def free(self, lane: Lane) -> bool:
        """Frees a held lane. Returns False if it is not held here."""
        with self._lock:
            if not self.alive or lane not in self._ledger.holds:
                return False
            self._ledger.free(lane)
            self._telling.tell(freed(-1, lane))
            self._advance(lane)
            return True

    def lanes(self) -> list[LaneView]:
        """The lanes in which records wait or run, or that wait for a run."""
        with self._lock:
            return self._queued.views(self._held)

    def waiting(self, ids: Container[str]) -> tuple[list[Record], list[int], set[int]]:
        """The tasks with these ids that wait in lanes, and neither run nor are handed out: the records in memory, and the
        offsets of the others; and the offsets of parked records that were not read again, of any task.
        """
        with self._lock:
            found, unread = self._queued.find(ids)
            others = self._held.keys() | self._elsewhere.keys() | self._open
            waiting = {offset: record for offset, record in found.items() if offset not in others}
        kept = [record for record in waiting.values() if record is not None]
        return kept, [offset for offset, record in waiting.items() if record is None], set(unread) - others

    # -- what runs elsewhere -------------------------------------------------------------------------------------------

    def leases_elsewhere(self) -> list[tuple[int, Lease]]:
        """The leases of other incarnations, each with its offset."""
        with self._lock:
            self._ledger.tidy()
            return [
                (offset, lease)
                for offset, lease in self._ledger.leases.items()
                if lease.incarnation != self._incarnation
            ]

    def overhear(self, value: bytes | None) -> None:
        """Folds a record of the journal, which another incarnation has written, into the ledger."""
        with self._lock:
            if not self._ledger.apply(value):
                error = Undecodable("malformed", "it is no record of a journal")
                count(f"the journal of {self.topic}", f"of partition {self.partition}", error)
                return
            self.uncommitted = True
            for offset in [each for each in self._elsewhere if self._ledger.has_ended(each)]:
                del self._elsewhere[offset]
                ticket = self._queued.ticket(offset)
                self._queued.leave(offset)
                if ticket is not None:
                    self._advance(ticket.lane)

    def reclaim(self, offset: int, lease: Lease) -> list[Record]:
        """Notes that a lease of another incarnation is over. Returns the records to hand out."""
        with self._lock:
            if self._ledger.leases.get(offset) == lease:
                self._ledger.release(offset)
        return self.released_elsewhere()

    def released_elsewhere(self) -> list[Record]:
        """Takes out the records that another worker ran and runs no more: they are to be handed out."""
        with self._lock:
            free = [offset for offset in self._elsewhere if self._lease_elsewhere(offset) is None]
            records = [self._elsewhere.pop(offset) for offset in free]
            admitted = [record for record in records if self._admit(record)]
            for offset in free:
                if (ticket := self._queued.ticket(offset)) is not None:
                    self._advance(ticket.lane)
            return admitted

    # -- owning --------------------------------------------------------------------------------------------------------

    def close_down(self) -> None:
        """Hands out and begins no more tasks; the ones that were reserved here are left to the new owner."""
        with self._lock:
            self.alive = False
            for offset in self._begins.give_up():
                self._ledger.release(offset)
                self._telling.tell(Transition(RELEASED, offset))

    def lose(self) -> None:
        """Notes that this process does not own the partition any more."""
        with self._lock:
            self.alive = False
            self.term += 1
            self._begins.give_up()
            self._telling.forget_mark()
            self._elsewhere.clear()
            self._open.clear()
            self._queued = Queued(self._ledger, self._remember)

    def await_restoring(self) -> None:
        """Keeps the transitions that are told from now on: the takeover that follows may read the journal without them."""
        with self._lock:
            self._telling.keep()

    def revive(self, restored: Ledger) -> None:
        """Owns the partition again: adds to a restored ledger the ends, and the transitions, that this process knows."""
        with self._lock:
            self.start, self.position, self.committed = restored.progress.low, -1, None
            restored.merge(self._ledger.progress, self._ledger.parked)
            restored.fold(self._telling.kept(), self._incarnation)
            self._ledger = restored
            self._queued = Queued(restored, self._remember)
            self._open = set(self._held)
            self.alive = True
            self._find_parked()

    def strays(self) -> list[tuple[str, int, int]]:
        """The tasks that this process runs though another worker owns the partition: topic, partition and offset of each."""
        with self._lock:
            held = () if self.alive else self._held
            named = self._guests.named(self._held, time.monotonic())
            return [(self.topic, self.partition, offset) for offset in {*held, *named}]

    # -- telling -------------------------------------------------------------------------------------------------------

    def mark(self) -> tuple[int, str] | None:
        """The offset to commit, and its metadata; None while the journal is not durable so far."""
        with self._lock:
            is_of_now = not self._telling.has_mark
            mark = self._telling.mark(self._ledger)
            self.uncommitted = mark is None or not is_of_now
            return mark

    def done_with(self) -> tuple[int, int]:
        """The offsets below which no worker needs the records of the queue, and of the journal, any more."""
        with self._lock:
            return self._ledger.needed, self._ledger.progress.checkpoint

    def check_in(self) -> None:
        """Writes a checkpoint into the journal, if it is due."""
        with self._lock:
            self._telling.check_in(self._ledger)
