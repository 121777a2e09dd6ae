"""The counts of a queue: its tasks that have not ended, counted by what each of them waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kafka_exec.core.queue.lanes import UNREAD, Lane, Lanes, Ticket
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.transitions import Lease


class QueueRecord(NamedTuple):
    """A record of a queue that was read.

    Attributes:
        at: when it was written, epoch seconds.
        ticket: its place in a lane; None: it is in none.
    """

    offset: int
    at: float
    ticket: Ticket | None = None


@dataclass(frozen=True)
class QueueCounts:
    """The tasks of a queue, or of one partition, that have not ended.

    Attributes:
        ready: tasks that may begin as soon as a worker has a free slot.
        running: tasks that run.
        lost: tasks that a worker ran which is gone; its successor begins them again.
        ordered: tasks behind another one of their ordering key, which runs or is ready.
        held: tasks behind a retry or a continuation of their key that is still to come.
        stopped: tasks of a key that a failure has stopped.
        parked: the part of the tasks behind others that the queue's lag does not count any more.
        oldest: when the first of the ready tasks was written, epoch seconds; None: none is ready.
        uncounted: offsets that were not read, since there are so many; they count as ready.
    """

    ready: int = 0
    running: int = 0
    lost: int = 0
    ordered: int = 0
    held: int = 0
    stopped: int = 0
    parked: int = 0
    oldest: float | None = None
    uncounted: int = 0

    @property
    def blocked(self) -> int:
        """The tasks that wait for another one of their ordering key."""
        return self.ordered + self.held + self.stopped

    @property
    def total(self) -> int:
        """All tasks that have not ended."""
        return self.ready + self.running + self.lost + self.blocked

    def __add__(self, other: QueueCounts) -> QueueCounts:
        known = [each for each in (self.oldest, other.oldest) if each is not None]
        return QueueCounts(
            self.ready + other.ready,
            self.running + other.running,
            self.lost + other.lost,
            self.ordered + other.ordered,
            self.held + other.held,
            self.stopped + other.stopped,
            self.parked + other.parked,
            min(known, default=None),
            self.uncounted + other.uncounted,
        )


def counts_of(
    ledger: Ledger, records: Iterable[QueueRecord], uncounted: int, lives: Callable[[str], bool]
) -> QueueCounts:
    """The counts of one partition.

    Args:
        ledger: as its next owner would restore it.
        records: the records from the first unfinished one on, in their order; those that have ended do not count.
        uncounted: the number of unfinished offsets behind the last of them.
        lives: returns True for an incarnation that is alive.
    """
    unfinished = [each for each in records if not ledger.has_ended(each.offset) and each.offset not in ledger.parked]
    lanes = lanes_of(ledger, {each.offset: each.ticket for each in unfinished})
    counts = dict.fromkeys(("ready", "running", "lost", "ordered", "held", "stopped"), 0)
    counts["ready"] = uncounted
    oldest: float | None = None
    for each in unfinished:
        kind = _kind(each, ledger, lanes, lives)
        counts[kind] += 1
        if kind == "ready":
            oldest = each.at if oldest is None else min(oldest, each.at)
    for lane in ledger.parked.values():
        counts[_wait(lane, ledger)] += 1
    return QueueCounts(**counts, parked=len(ledger.parked), oldest=oldest, uncounted=uncounted)


def lanes_of(ledger: Ledger, tickets: Mapping[int, Ticket | None]) -> Lanes:
    """The lanes of a partition. ``tickets``: of the unfinished records that were read, perhaps without parked ones."""
    parked = {offset: Ticket(lane, UNREAD) for offset, lane in ledger.parked.items()}
    lanes = Lanes()
    for offset, ticket in sorted({**parked, **tickets}.items()):
        if ticket is not None:
            lanes.enter(offset, ticket)
    return lanes


def begun(ledger: Ledger, offset: int) -> Lease | None:
    """The lease of a task that has begun. One that was given to a worker, and waits there for a slot, has not."""
    lease = ledger.leases.get(offset)
    return lease if lease is not None and lease.attempt > 0 else None


def _kind(record: QueueRecord, ledger: Ledger, lanes: Lanes, lives: Callable[[str], bool]) -> str:
    if (lease := begun(ledger, record.offset)) is not None:
        return "running" if lives(lease.incarnation) else "lost"
    if record.ticket is None or lanes.may_run(record.offset, ledger.holds):
        return "ready"
    return _wait(record.ticket.lane, ledger)


def _wait(lane: Lane, ledger: Ledger) -> str:
    hold = ledger.holds.get(lane)
    if hold is None:
        return "ordered"
    return "stopped" if hold.is_stop else "held"
