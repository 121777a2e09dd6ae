"""The audit of one partition of a queue: if what its log tells keeps all that is promised.

It is a fold of the journal over the records of a time: what was lost, what was begun after its end, and which tasks of an
ordering key ran beside one another or in the wrong order. It judges what workers have told. A worker that was paused or cut
off may tell the begin of a run late; its begin is judged by its place in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from kafka_exec.core.overview.counts import QueueRecord, begun
from kafka_exec.core.queue.lanes import Lane, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.transitions import ENDED, FREED, HELD, RELEASED, STARTED, Transition, lane_of, run_of


class Breach(Enum):
    """A promise that the log does not keep."""

    #: The group's commit has passed the task, and no worker has told its end.
    LOST = "lost"
    #: A worker began the task after its end was told.
    AGAIN = "begun after its end"
    #: Two tasks of one ordering key ran at the same time.
    OVERLAP = "ran beside another task of its key"
    #: A task of an ordering key began before an earlier one of the same key.
    INVERSION = "begun before an earlier task of its key"


class Finding(NamedTuple):
    """A breach. ``offset``: of the task's record; ``told``: the journal's offset of the record that shows it; -1: none."""

    breach: Breach
    offset: int
    told: int = -1
    by: str = ""


class JournalEvent(NamedTuple):
    """A transition of the journal, the incarnation that has written it, and the offset and time of its record.

    Attributes:
        at: epoch seconds.
    """

    transition: Transition
    incarnation: str
    offset: int
    at: float


@dataclass
class Audit:
    """The result for a partition, or for several.

    Attributes:
        sent: the records of the time.
        ended: those of them that have ended.
        running, lost_runs, waiting: the others: those that run, whose worker is gone, and that wait.
        repeated: the runs that were begun again, because a worker or its connection was lost.
        findings: the breaches.
    """

    sent: int = 0
    ended: int = 0
    running: int = 0
    lost_runs: int = 0
    waiting: int = 0
    repeated: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Audit) -> None:
        """Adds the counts of another partition; its findings stay its own."""
        for name in ("sent", "ended", "running", "lost_runs", "waiting", "repeated"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class _Lane:
    """A lane: its first runs that have not begun, the task that runs, and the run for which the lane waits."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.runs: int | None = None
        self.hold: Run | None = None

    def is_ahead_of(self, offset: int, run: Run) -> bool:
        """True if another run of the lane should begin before this one.

        A retry is as early as its first run, whatever its offset; the lane waits for it. If the first run was sent before
        the time of the audit, that is not known.
        """
        if run == self.hold or run.retries:
            return False
        return self.hold is not None or bool(self.waiting and self.waiting[0] < offset)

    def begin(self, offset: int, run: Run) -> None:
        """Notes a begin."""
        if run == self.hold:
            self.hold = None
        self.runs = offset
        self._forget(offset)

    def leave(self, offset: int, *, has_ended: bool) -> None:
        """Notes that a task runs no more. It has ended, perhaps without a begin, or may be begun again."""
        if self.runs == offset:
            self.runs = None
        if has_ended:
            self._forget(offset)

    def _forget(self, offset: int) -> None:
        if offset in self.waiting:
            self.waiting.remove(offset)


def audit(
    records: Iterable[QueueRecord],
    journal: Iterable[JournalEvent],
    ledger: Ledger,
    lives: Callable[[str], bool],
) -> Audit:
    """The audit of a partition.

    Args:
        records: the records of the time, in their order.
        journal: the transitions since the first of them was written, in their order.
        ledger: the state of the partition now.
        lives: returns True for an incarnation that is alive.
    """
    fold = _Fold(records)
    for told in journal:
        fold.take(told)
    return fold.result(ledger, lives)


class _Fold:
    def __init__(self, records: Iterable[QueueRecord]) -> None:
        self._sent: dict[int, Ticket | None] = {}
        self._begun: dict[int, int] = {}
        self._ended: set[int] = set()
        self._lanes: dict[Lane, _Lane] = {}
        self._found = Audit()
        for record in records:
            self._sent[record.offset] = record.ticket
            if (ticket := record.ticket) is not None and ticket.lane.kind == "key":
                lane = self._lanes.setdefault(ticket.lane, _Lane())
                if not ticket.run.retries:
                    lane.waiting.append(record.offset)

    def take(self, told: JournalEvent) -> None:
        """Folds a transition."""
        transition = told.transition
        if transition.kind in (HELD, FREED):
            self._hold(transition)
        elif transition.offset not in self._sent:
            return
        elif transition.kind == STARTED:
            self._start(told)
        elif transition.kind == ENDED:
            self._ended.add(transition.offset)
            self._leave(transition.offset)
        elif transition.kind == RELEASED:
            self._leave(transition.offset)

    def _start(self, told: JournalEvent) -> None:
        offset = told.transition.offset
        if offset in self._ended:
            self._note(Breach.AGAIN, told)
            return
        self._found.repeated += told.transition.attempt > 1 and told.transition.attempt > self._begun.get(offset, 0)
        first = offset not in self._begun
        self._begun[offset] = max(told.transition.attempt, self._begun.get(offset, 0))
        ticket = self._sent[offset]
        lane = None if ticket is None else self._lanes.get(ticket.lane)
        if ticket is None or lane is None:
            return
        if lane.runs not in (None, offset):
            self._note(Breach.OVERLAP, told)
        if first and lane.is_ahead_of(offset, ticket.run):
            self._note(Breach.INVERSION, told)
        lane.begin(offset, ticket.run)

    def _leave(self, offset: int) -> None:
        ticket = self._sent[offset]
        if ticket is not None and (lane := self._lanes.get(ticket.lane)) is not None:
            lane.leave(offset, has_ended=offset in self._ended)

    def _hold(self, transition: Transition) -> None:
        try:
            found = self._lanes.get(lane_of(*transition.about[:2]))
            run = run_of(*transition.about[2:]) if len(transition.about) == 4 else None
        except (ValueError, TypeError):
            return  # a later version has written it
        if found is None:
            return
        if transition.kind == HELD:
            found.hold = run
        elif run is None or found.hold == run:
            found.hold = None

    def _note(self, breach: Breach, told: JournalEvent) -> None:
        self._found.findings.append(Finding(breach, told.transition.offset, told.offset, told.incarnation))

    def result(self, ledger: Ledger, lives: Callable[[str], bool]) -> Audit:
        """The audit, with what has become of each record by now."""
        found = self._found
        for offset in self._sent:
            found.sent += 1
            if offset in self._ended:
                found.ended += 1
            elif ledger.has_ended(offset):
                found.findings.append(Finding(Breach.LOST, offset))
            elif (lease := begun(ledger, offset)) is None:
                found.waiting += 1
            elif lives(lease.incarnation):
                found.running += 1
            else:
                found.lost_runs += 1
        return found
