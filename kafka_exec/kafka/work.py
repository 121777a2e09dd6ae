"""A partition of a work queue as a member of its group owns it: what it hands out, who has begun what, what has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Message as Record

from kafka_exec.core.journal import Progress
from kafka_exec.core.ledger import ENDED, RELEASED, STARTED, Lease, Ledger, Transition
from kafka_exec.kafka import native

if TYPE_CHECKING:
    from kafka_exec.kafka.journal import Journal

#: After so many transitions the journal gets a checkpoint: bounds what a new owner reads.
_CHECKPOINT_AFTER = 2000


class Work:
    """A partition that a reader owns, or has owned. Thread-safe.

    Args:
        ledger: as it was restored.
        start: the committed offset with which it was assigned.
        journal: where what happens to its tasks is told; None: nowhere, they only are committed.

    Attributes:
        alive: it is owned now.
        term: how often it was lost; what was handed out in an earlier term, and not begun, is read again.
        position: the next offset to read; -1 before the first.
        uncommitted: something ended since the last commit was made.
        committed: the offset and metadata that were sent last.
    """

    def __init__(self, topic: str, partition: int, ledger: Ledger, start: int, journal: Journal | None) -> None:
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
        self._boot = "" if journal is None else journal.boot
        # What this process has begun and not ended.
        self._held: set[int] = set()
        # What was read and runs elsewhere.
        self._elsewhere: dict[int, Record] = {}
        # What was read in this term, is not run elsewhere, and has not ended.
        self._open: set[int] = set()
        self._untold = 0
        self._lock = native.lock()

    @property
    def outstanding(self) -> int:
        """Records that were read, are not being run elsewhere, and have not ended."""
        return len(self._open)

    @property
    def is_held(self) -> bool:
        """Whether this process has begun something of it that has not ended."""
        return bool(self._held)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, record: Record) -> bool:
        """Notes a record that was read. True: it is to be handed out; False: it has ended, or is being run."""
        offset = record.offset()
        with self._lock:
            self.position = offset + 1
            if not self._ledger.progress.receive(offset) or offset in self._held:
                return False
            if self._lease_elsewhere(offset) is not None:
                self._elsewhere[offset] = record
                return False
            self._open.add(offset)
            return True

    def reach(self, end: int) -> None:
        """Notes that all records before ``end`` were read; what nobody sees of them counts as done."""
        with self._lock:
            self.position = max(self.position, end)
            self.uncommitted |= self._ledger.progress.reach(end)

    # -- running -------------------------------------------------------------------------------------------------------

    def deliver(self, offset: int, term: int) -> bool | None:
        """Notes that a record is given to a consumer. True: it may have been given to one before; None: it must not be."""
        with self._lock:
            if not self._may_run(offset, term):
                return None
            return self._ledger.progress.deliver(offset) or offset in self._ledger.attempts

    def attempts(self, offset: int) -> int:
        """How often a task was begun."""
        return self._ledger.attempts.get(offset, 0)

    def begin(self, offset: int, term: int) -> bool:
        """Notes that this process begins a task. False: it must not, the task is another's by now."""
        with self._lock:
            if not self._may_run(offset, term):
                return False
            self._held.add(offset)
            if self._journal is not None:
                lease = self._ledger.start(offset, self._boot)
                self._tell(Transition(STARTED, offset, lease.attempt))
            return True

    def end(self, offset: int) -> None:
        """Notes that a task is finished; also of a partition that is another's by now."""
        with self._lock:
            self._held.discard(offset)
            self._open.discard(offset)
            self._ledger.end(offset)
            self.uncommitted = True
            self._tell(Transition(ENDED, offset))

    def release(self, offset: int, term: int) -> bool:
        """Notes that a task that was begun runs no more and has not ended. True: this process may begin it again."""
        with self._lock:
            if offset in self._held:
                self._held.discard(offset)
                self._ledger.release(offset)
                self._tell(Transition(RELEASED, offset))
            return self._may_run(offset, term)

    def _may_run(self, offset: int, term: int) -> bool:
        return (
            self.alive
            and term == self.term
            and offset not in self._held
            and not self._ledger.progress.has_ended(offset)
            and self._lease_elsewhere(offset) is None
        )

    def _lease_elsewhere(self, offset: int) -> Lease | None:
        """The lease of another incarnation; only who keeps a journal heeds leases."""
        lease = self._ledger.leases.get(offset)
        return lease if lease is not None and self._journal is not None and lease.boot != self._boot else None

    # -- what runs elsewhere -------------------------------------------------------------------------------------------

    def leases_elsewhere(self) -> list[tuple[int, Lease]]:
        """The leases of other incarnations, by offset."""
        with self._lock:
            self._ledger.tidy()
            return [(offset, lease) for offset, lease in self._ledger.leases.items() if lease.boot != self._boot]

    def overhear(self, value: bytes | None) -> None:
        """Folds a record of the journal that another incarnation has written."""
        with self._lock:
            self._ledger.apply(value)
            self.uncommitted = True
            for offset in [each for each in self._elsewhere if self._ledger.progress.has_ended(each)]:
                del self._elsewhere[offset]

    def reclaim(self, offset: int, lease: Lease) -> list[Record]:
        """Notes that a lease of another incarnation is over; the records to hand out."""
        with self._lock:
            if self._ledger.leases.get(offset) == lease:
                self._ledger.release(offset)
        return self.released_elsewhere()

    def released_elsewhere(self) -> list[Record]:
        """The records that were read, and ran elsewhere, and do not any more: they are to be handed out."""
        with self._lock:
            free = [offset for offset in self._elsewhere if self._lease_elsewhere(offset) is None]
            self._open.update(free)
            return [self._elsewhere.pop(offset) for offset in free]

    # -- owning --------------------------------------------------------------------------------------------------------

    def close_down(self) -> None:
        """Nothing more of it is handed out or begun."""
        with self._lock:
            self.alive = False

    def lose(self) -> None:
        """The partition is owned no more."""
        with self._lock:
            self.alive = False
            self.term += 1
            self._elsewhere.clear()
            self._open.clear()

    def revive(self, restored: Ledger) -> None:
        """The partition is owned again: what was told meanwhile is added to what this process knows."""
        with self._lock:
            self.start, self.position, self.committed = restored.progress.low, -1, None
            restored.merge(self._ledger.progress)
            self._ledger = restored
            self._open = set(self._held)
            self.alive = True

    def strays(self) -> list[tuple[str, int, int]]:
        """What this process runs though the partition is another's now: topic, partition, offset."""
        with self._lock:
            return [] if self.alive else [(self.topic, self.partition, offset) for offset in self._held]

    # -- telling -------------------------------------------------------------------------------------------------------

    def mark(self) -> tuple[int, str]:
        """The offset to commit, and its metadata."""
        with self._lock:
            self.uncommitted = False
            progress = self._ledger.progress
            return progress.low, progress.metadata()

    def done_with(self) -> tuple[int, int]:
        """The offsets below which nobody needs the queue's records any more, and the journal's."""
        with self._lock:
            return self._ledger.progress.low, self._ledger.progress.checkpoint

    def check_in(self) -> None:
        """Writes a checkpoint into the journal, if it is due."""
        with self._lock:
            if self._journal is not None and self._untold >= _CHECKPOINT_AFTER:
                self._untold = 0
                self._journal.checkpoint(self.partition, self._ledger.checkpoint(), self._checked_in)

    def _checked_in(self, offset: int) -> None:
        """Called in the producer's thread. From the next commit on a new owner begins there."""
        progress: Progress = self._ledger.progress
        progress.checkpoint = max(progress.checkpoint, offset)

    def _tell(self, transition: Transition) -> None:
        if self._journal is not None:
            self._untold += 1
            self._journal.tell(self.partition, transition)
