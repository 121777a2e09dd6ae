"""The executor of a partition's state machine: it locks it, reads the clocks, writes the journal, and hands records out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Message as Record

from kafka_exec.core.message.envelope import ticket_of
from kafka_exec.core.nodes.liveness import TrustWindow
from kafka_exec.core.queue.lanes import Lane, LaneView, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.partition.begins import Begun
from kafka_exec.core.queue.partition.machine import Partition
from kafka_exec.core.queue.partition.records import Now
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import Lease
from kafka_exec.core.worker.sharing import Grant
from kafka_exec.errors import NotConfirmed, Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.oddities import count
from kafka_exec.kafka.queue.journal import Journal
from kafka_exec.kafka.queue.newcomers import Newcomer, Newcomers

logger = logging.getLogger("kafka_exec")

T = TypeVar("T")


class OwnedPartition:
    """A partition that a reader owns, or has owned, or runs granted tasks of. Thread-safe.

    All that is decided is decided by :class:`~kafka_exec.core.queue.partition.machine.Partition`, whose methods these are.

    Args:
        ledger: the partition's ledger, as it was restored.
        journal: the journal that the worker writes; None: ends of tasks are only committed.
        membership: the time for which the owner may trust that it still owns the partition.
        remember: how long a second task of a deduplication id is dropped, seconds.
        on_free: called with a record that had to wait, and is to be handed out now. It must not block.

    Attributes:
        queue: the id of the queue's topic.
        committed: the offset and metadata that were sent last.
        stream: the transitions that are written into the journal; None: there is no journal.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        ledger: Ledger,
        journal: Journal | None,
        *,
        membership: TrustWindow,
        remember: float,
        on_free: Callable[[Record, OwnedPartition], None],
    ) -> None:
        self.topic, self.partition = topic, partition
        self.queue = ledger.queue
        self.committed: tuple[int, str] | None = None
        self._journal = journal
        self.stream = None if journal is None else journal.writer.stream(partition, ledger.queue)
        self._on_free = on_free
        self._newcomers = Newcomers()
        self._lock = native.lock()
        self._core: Partition[Record] = Partition(
            ledger,
            "" if journal is None else journal.incarnation,
            membership=membership,
            remember=remember,
            period=0.0 if journal is None else journal.node.period,
            hears=lambda: journal is not None and journal.position(partition) is not None,
            now=self._now(),
        )

    # -- questions -----------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """True if this process owns the partition now."""
        return self._core.owned

    @property
    def term(self) -> int:
        """The number of times that the partition was lost."""
        return self._core.term

    @property
    def position(self) -> int:
        """The next offset to read; -1 before the first."""
        return self._core.position

    @property
    def expected(self) -> int:
        """The lowest offset that the next record can have, in the topic as it is known."""
        return self._core.position if self._core.position >= 0 else self._core.ledger.progress.low

    @property
    def outstanding(self) -> int:
        """The number of records that are handed out, or run here, and have not ended."""
        return self._core.outstanding

    @property
    def is_held(self) -> bool:
        """True if a task of the partition runs here."""
        return bool(self._core.running)

    @property
    def uncommitted(self) -> bool:
        """True if a task has ended since the last commit was made."""
        return self._core.uncommitted

    @uncommitted.setter
    def uncommitted(self, value: bool) -> None:
        self._core.uncommitted = value

    def attempts(self, offset: int) -> int:
        """The number of times that a task was begun."""
        return self._core.attempts(offset)

    def may_run(self, offset: int, term: int) -> bool:
        """True if this process may begin a task that it got in a term."""
        with self._lock:
            return self._core.may_run(offset, term, self._now())

    def needs_journal(self) -> bool:
        """True if the transitions of other processes matter."""
        with self._lock:
            return self._journal is not None and self._core.needs_journal()

    def leases_elsewhere(self) -> list[tuple[int, Lease]]:
        """The leases of other incarnations, each with its offset."""
        with self._lock:
            return self._core.leases_elsewhere()

    def strays(self) -> list[tuple[str, int, int]]:
        """The tasks that heartbeats must name: topic, partition and offset of each."""
        with self._lock:
            return [(self.topic, self.partition, offset) for offset in self._core.strays(self._now())]

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, record: Record) -> bool:
        """Notes a record that was read. Returns True if it is to be handed out now."""
        with self._lock:
            self._core.read(record.offset(), self._ticket(record), record, self._now(), record.leader_epoch() or 0)
            return self._carry_out(record)

    def reach(self, end: int) -> None:
        """Notes that all records before ``end`` were read."""
        with self._lock:
            self._core.reach(end)

    def wanted(self) -> list[int]:
        """The offsets of records that wait in lanes, are needed soon, and must be read again."""
        with self._lock:
            return sorted(self._core.wanted)

    def found(self, offset: int, record: Record | None) -> None:
        """Notes a wanted record that was read; None: Kafka has it no more."""
        with self._lock:
            if record is None:
                self._core.missing(offset, self._now())
            else:
                self._core.found(offset, self._ticket(record), record, self._now())
            self._carry_out()

    def _ticket(self, record: Record, attempts: int = 0) -> Ticket | None:
        offset = record.offset()
        restarted = attempts > 0 or self._core.may_have_begun(offset)
        try:
            return ticket_of(record.headers(), record.value(), self.topic, self.partition, restarted=restarted)
        except Exception:  # a record of no known kind must not keep those behind it from being read
            logger.exception("record %s of partition %s of %s has no place", offset, self.partition, self.topic)
            return None

    # -- running -------------------------------------------------------------------------------------------------------

    def deliver(self, offset: int, term: int) -> bool | None:
        """Notes that a consumer gets a record. Returns True if one may have had it before, None if it must not be given."""
        return self._act(self._core.deliver, offset, term)

    def begin(self, offset: int, term: int) -> bool:
        """Notes that a task begins here. Returns False if it must not.

        Raises:
            NotConfirmed: this process was stopped for long, and will know only soon if it still owns the partition.
        """
        return self._act(self._core.begin, offset, term)

    def confirm(self, offset: int, term: int, timeout: float, *, surely: bool = False) -> Begun | None:
        """Waits until a task that was begun in a term may run. Returns None if it must not run here.

        Args:
            surely: its begin must be durable whichever task it is.

        Raises:
            NotConfirmed: that is not known within ``timeout`` seconds.
        """
        fence = None
        deadline = time.monotonic() + timeout
        if self.stream is not None and (number := self._core.awaits(offset, surely=surely)) is not None:
            if not self.stream.await_durable(number, timeout):
                raise NotConfirmed("Kafka has not taken down that its run begins")
            fence = self.stream.written_to
        while self._core.is_undecided(offset):
            if time.monotonic() > deadline:
                raise NotConfirmed("whether another worker has begun it is not known yet")
            native.sleep(0.002)
        with self._lock:
            now = self._now()
            runs = self._core.confirm(offset, term, now)
            self._carry_out()
            start_by = None if self.stream is None else self._core.start_by(offset, now)
        if runs is None:
            raise NotConfirmed("its begin is told anew, since this worker was stopped for long")
        return Begun(fence, start_by) if runs else None

    def will_end(self, offset: int, awaits: Callable[[Ticket], Run]) -> None:
        """Notes that a running task will hold its lane at its end. ``awaits`` makes the run that the lane waits for then."""
        with self._lock:
            self._core.will_end(offset, awaits)

    def end(self, offset: int) -> None:
        """Notes that a task has ended, also if another process owns the partition by now."""
        self._act(self._core.end, offset)

    def purge(self) -> None:
        """Ends all records that wait, or are handed out, and have not begun."""
        self._act(self._core.purge)

    def put_back(self, offset: int, term: int) -> bool:
        """Notes that a task runs no more and has not ended. Returns True if this process may begin it again."""
        return self._act(self._core.put_back, offset, term)

    # -- sharing -------------------------------------------------------------------------------------------------------

    def give(self, record: Record, term: int, incarnation: str) -> Grant | None:
        """Gives a task that has not begun to another incarnation. Returns None if this process may not give it."""
        place = self.topic, self.partition, record.offset()
        attempts = self._act(self._core.give, place[2], term, self._ticket(record, 1), record, incarnation)
        return None if attempts is None else Grant(incarnation, *place, attempts, self.queue, since=0)

    def durable(self, grant: Grant) -> Grant | None:
        """A grant as it is told, since it is durable now; None if the task was taken back, or has ended, meanwhile."""
        with self._lock:
            stands = self._core.has_given(grant.offset, Lease(grant.to, grant.attempts))
            return grant._replace(since=(self.stream and self.stream.written_to) or 0) if stands else None

    def accept(self, grant: Grant, record: Record, at: float) -> bool:
        """Notes a task that another owner has given at a log time. Returns True if it is to be handed out."""
        with self._lock:
            ticket = self._ticket(record, grant.attempts)
            self._core.accept(grant.offset, ticket, record, attempts=grant.attempts, at=at, now=self._now())
            return self._carry_out(record)

    def miss_journal(self) -> None:
        """Notes that records of the journal were not heard."""
        with self._lock:
            self._core.miss_journal()

    def hear(self, value: bytes | None) -> None:
        """Folds a record of the journal, in the order of the log."""
        with self._lock:
            if not self._core.hear(value, self._now()):
                error = Undecodable("malformed", "it is no record of a journal")
                count(f"the journal of {self.topic}", f"of partition {self.partition}", error)
            self._carry_out()

    def reclaim(self, offset: int, lease: Lease) -> None:
        """Notes that another incarnation with this lease is lost, or has ceased to run the task."""
        self._act(self._core.reclaim, offset, lease)

    # -- lanes ---------------------------------------------------------------------------------------------------------

    def newcomers(self) -> list[Newcomer]:
        """The records that have begun to wait in lanes of ordering keys since the last call, and still wait."""
        with self._lock:
            return self._newcomers.take(self._core.places)

    def free(self, lane: Lane) -> bool:
        """Frees a held lane. Returns False if it is not held here."""
        return self._act(self._core.free, lane)

    def park(self) -> None:
        """Parks the records of held lanes that have kept the commit back for long, so that it can go on."""
        self._act(self._core.park)

    def lanes(self) -> list[LaneView]:
        """The lanes in which records wait or run, or that wait for a run."""
        with self._lock:
            return self._core.views()

    def waiting(self, ids: Container[str]) -> tuple[list[Record], list[int], set[int]]:
        """The tasks with these ids that wait in lanes: the records in memory, and the offsets of the others; and the offsets
        of parked records that were not read again, of any task.
        """
        with self._lock:
            found, unread = self._core.waiting(ids)
        kept = [record for record in found.values() if record is not None]
        return kept, [offset for offset, record in found.items() if record is None], unread

    # -- owning --------------------------------------------------------------------------------------------------------

    def close_down(self) -> None:
        """Hands out and begins no more tasks; those that do not run yet are left to the new owner."""
        self._act(self._core.close)

    def lose(self) -> None:
        """Notes that this process does not own the partition any more."""
        self._act(self._core.lose)

    def expect_ledger(self) -> None:
        """Keeps the transitions that are under way, and told from now on: the ledger that is restored next may lack them."""
        with self._lock:
            self._core.outbox.keep(() if self.stream is None else self.stream.under_way())

    def own(self, restored: Ledger) -> None:
        """Owns the partition again, by a restored ledger."""
        self.committed = None
        self._act(self._core.own, restored)

    # -- commits -------------------------------------------------------------------------------------------------------

    def mark(self) -> tuple[int, str] | None:
        """The offset to commit, and its metadata; None while the journal lacks what the commit needs."""
        with self._lock:
            return self._core.commit(lambda number: self.stream is None or self.stream.is_durable(number))

    def done_with(self) -> tuple[int, int]:
        """The offsets below which no worker needs the records of the queue, and of the journal, any more.

        A new owner knows only what was committed, and what the journal has.
        """
        with self._lock:
            committed = None if self.committed is None else Progress.restore(*self.committed)
            return (0, 0) if committed is None else (min(self._core.needed, committed.low), committed.folded)

    def check_in(self) -> None:
        """Writes a checkpoint into the journal, if it is due. A commit names it when it is there."""
        with self._lock:
            if self.stream is None or self._journal is None or not self._core.outbox.is_checkpoint_due:
                return
            progress, heard = self._core.ledger.progress, self._journal.position(self.partition)
            # Transitions that are told later may come before it all the same, if it is refused at first.
            folded = heard if heard is not None else self.stream.written_to or 0
            checked_in = partial(progress.check_in, folded=folded)
            self.stream.checkpoint(self._core.outbox.checkpoint(self._core.ledger, folded), checked_in)

    # -- carrying out --------------------------------------------------------------------------------------------------

    def _act(self, act: Callable[..., T], *args: Any) -> T:
        with self._lock:
            result = act(*args, self._now())
            self._carry_out()
            return result

    def _now(self) -> Now:
        steady = time.monotonic()
        log = None if self._journal is None else self._journal.node.log_time(steady)
        return Now(steady, time.time() if log is None else log)

    def _carry_out(self, awaited: Record | None = None) -> bool:
        """Carries the effects out. Returns True if a record that is ``awaited`` is to be handed out, by the caller."""
        if (ready := self._core.ready()) is None:
            return False
        if self.stream is not None:
            for transitions in ready.told:
                self.stream.tell(*transitions)
        if ready.waits:
            self._newcomers.add(ready.waits)
        for offset, other in ready.dropped:
            self._tell_of_copy(offset, other)
        for record in ready.hand_out:
            if record is not awaited:
                self._on_free(record, self)
        return awaited is not None and any(record is awaited for record in ready.hand_out)

    def _tell_of_copy(self, offset: int, other: str) -> None:
        if not other:
            logger.info("record %s of %s was sent a second time, and the first has ended: dropped", offset, self.topic)
            return
        logger.error(
            f"record {offset} of {self.topic}, a task {other}, is dropped, since another task of the same deduplication id "
            "has ended: who sends them must give each an id of its own"
        )
