"""The fold of one partition's journal: which tasks have ended, which ones run where, and how often each was begun."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from kafka_exec.core.queue.lanes import Lane, Run, sent_by
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import (
    ENDED,
    FARTHEST,
    FREED,
    GRANTED,
    HELD,
    MOST_REMEMBERED,
    PARKED,
    RELEASED,
    REMEMBERED,
    STARTED,
    Lease,
    Memory,
    Transition,
    lane_of,
    memory_of,
    object_of,
    run_of,
    transitions_of,
)
from kafka_exec.core.record.fields import whole

#: A process that runs tasks of another owner knows about so many runs of their ends at least. The journal has them all.
_MOST_FOREIGN = 10_000


@dataclass
class Ledger:
    """The state of one partition's tasks.

    Attributes:
        queue: the id of the queue's topic. A topic that was deleted and made again has other offsets, so records with
            another id do not count.
        progress: the offsets that were read, and those that have ended; parked records count as ended there.
        leases: the leases of tasks that have not ended, by offset.
        displaced: the leases in whose place another incarnation's has come that their holders have not told. It may be told
            late, by a worker that did not know of the lease: when it is over, the former one counts again.
        attempts: how often each task that has not ended was begun, by offset.
        holds: the held lanes, and the run that each waits for.
        holders: the records whose ends hold them, by lane; -1: a checkpoint of an earlier version does not name it.
        places: the records whose places in held lanes those runs have, by lane: the first ones of their tasks.
        parked: the lanes of parked records, by offset.
        remembered: the ends of tasks whose copies are dropped, by :attr:`Ticket.once`; the latest last.
        unheard: the tasks whose ends this process has told, and not heard: what another one tells of them comes first in the
            log.
    """

    queue: str
    progress: Progress
    leases: dict[int, Lease] = field(default_factory=dict)
    displaced: dict[int, Lease] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    holds: dict[Lane, Run] = field(default_factory=dict)
    holders: dict[Lane, int] = field(default_factory=dict)
    places: dict[Lane, int] = field(default_factory=dict)
    parked: dict[int, Lane] = field(default_factory=dict)
    remembered: dict[str, Memory] = field(default_factory=dict)
    unheard: set[int] = field(default_factory=set)

    @property
    def needed(self) -> int:
        """The lowest offset that is still needed: all records of the queue below it may be deleted."""
        return min(self.progress.low, min(self.parked, default=self.progress.low))

    def has_ended(self, offset: int) -> bool:
        """True if a task has ended."""
        return self.progress.has_ended(offset) and offset not in self.parked

    def start(self, offset: int, incarnation: str) -> Lease:
        """Notes that an incarnation begins a task."""
        self.lease(offset, Lease(incarnation, self.attempts.get(offset, 0) + 1))
        return self.leases[offset]

    def grant(self, offset: int, incarnation: str) -> Lease:
        """Notes that another incarnation is to begin a task: it has a lease from now on."""
        self.lease(offset, Lease(incarnation, self.attempts.get(offset, 0)))
        return self.leases[offset]

    def end(self, offset: int) -> None:
        """Notes that a task has ended, whichever worker ran it. A second call changes nothing."""
        self.progress.end(offset)
        self.parked.pop(offset, None)
        self.leases.pop(offset, None)
        self.displaced.pop(offset, None)
        self.attempts.pop(offset, None)

    def void(self, offset: int) -> None:
        """Forgets all tasks from an offset on: the queue was truncated there, and has other records now."""
        self.progress.void(offset)
        for of_tasks in (self.leases, self.displaced, self.attempts, self.parked):
            for each in [task for task in of_tasks if task >= offset]:
                del of_tasks[each]

    def release(self, offset: int) -> None:
        """Notes that no worker runs a task any more, and that it has not ended: it may be begun again."""
        self.leases.pop(offset, None)
        if (former := self.displaced.pop(offset, None)) is not None:
            self.leases[offset] = former

    def accept(self, offset: int, attempts: int) -> None:
        """Notes that another owner grants a task to this process, and that it was begun so often.

        That owner may not know yet of a start that this process has told, and given back, before. The next one has another
        number: else what is told of the former one would end it.
        """
        self.displaced.pop(offset, None)
        self.release(offset)
        if number := max(attempts, self.attempts.get(offset, 0)):
            self.attempts[offset] = number
        self.progress.thin(_MOST_FOREIGN)

    def forget_all_but(self, offsets: Container[int]) -> None:
        """Forgets the leases of all tasks but these, the attempts of all but these and the last ones, and the held lanes."""
        self.leases = {each: lease for each, lease in self.leases.items() if each in offsets}
        self.displaced = {}
        for offset in [each for each in self.attempts if each not in offsets][:-_MOST_FOREIGN]:
            del self.attempts[offset]
        self.holds, self.holders, self.places, self.unheard = {}, {}, {}, set()

    def hold(self, lane: Lane, run: Run, offset: int = -1) -> None:
        """Notes that a lane waits for a run, since the record at an offset has ended; -1: it is not known which.

        If the lane waits already for a run of a later task, it has gone on before without this one, which was deleted while
        it ran.
        """
        awaited = self.holds.get(lane)
        is_next = awaited is not None and awaited.task_id == run.task_id
        if offset >= (self.holders if is_next else self.places).get(lane, -1):
            self.holds[lane], self.holders[lane] = run, offset
            self.places[lane] = self.places[lane] if is_next else offset

    def free(self, lane: Lane, run: Run | None = None) -> None:
        """Notes that a lane waits no more, if it waited for ``run``; None: for any run."""
        if run is None or self.holds.get(lane) == run:
            for of_lanes in (self.holds, self.holders, self.places):
                of_lanes.pop(lane, None)

    def park(self, lane: Lane, offsets: Iterable[int]) -> None:
        """Notes that records that wait in a lane are parked: the commit counts them as ended."""
        for offset in offsets:
            if not self.progress.has_ended(offset):
                self.progress.end(offset)
                self.parked[offset] = lane

    def unpark(self) -> None:
        """Notes that parked records which the commit has not passed wait as all others: a new owner reads them again anyway.

        A record of their lane that comes before them may not be parked, since the journal lacks that it is.
        """
        if unpassed := [offset for offset in self.parked if offset >= self.progress.low]:
            self.progress = self.progress.without(unpassed)
            for offset in unpassed:
                del self.parked[offset]

    def remember(self, name: str, memory: Memory) -> None:
        """Notes the end of a task whose copies are dropped."""
        self.remembered.pop(name, None)
        self.remembered[name] = memory
        if len(self.remembered) > MOST_REMEMBERED:
            del self.remembered[next(iter(self.remembered))]

    def recall(self, name: str, since: float) -> Memory | None:
        """The end of the task of this name, if it is not older than ``since`` (epoch seconds): copies of it are dropped."""
        found = self.remembered.get(name)
        return found if found is not None and found.at >= since else None

    def apply(self, value: bytes | None, *, but: str = "") -> list[tuple[Transition, str]] | None:
        """Folds the transitions in a record of the journal, but for those of one kind; a checkpoint changes nothing.

        Returns:
            The transitions, each with the incarnation that has written it; None if it is no record of a journal.
        """
        found = object_of(value)
        if found.get("queue") != self.queue:
            return [] if "queue" in found else None
        transitions = [each for each in transitions_of(found) if each[0].kind != but]
        for _, incarnation in transitions[:1]:
            self.fold((transition for transition, _ in transitions), incarnation)
        return transitions

    def fold(self, transitions: Iterable[Transition], incarnation: str) -> None:
        """Folds transitions that an incarnation has written, in the order of the log.

        Of two ends of a task the first counts: by the later one no lane waits for another run, and no retry is a copy. If
        this process has told its own end before it hears the first one, the lane has gone on here by its own; but the retry
        that it may have sent is a copy if the first one says so.
        """
        late: set[int] = set()
        for transition in transitions:
            if transition.kind == STARTED:
                self._start(transition.offset, Lease(incarnation, transition.attempt))
            elif transition.kind == GRANTED:
                self._displace(transition.offset, Lease(transition.about[0], transition.attempt), by=incarnation)
            elif transition.kind == ENDED:
                if self.has_ended(transition.offset):
                    late.add(transition.offset)
                self.end(transition.offset)
            elif transition.kind == RELEASED:
                self._release(transition.offset, Lease(incarnation, transition.attempt))
            elif transition.offset not in late or self._counts(transition):
                self._apply_to_lane(transition)
        self.unheard -= late

    def expect(self, transitions: Sequence[Transition], incarnation: str) -> None:
        """Folds transitions that this process, of this incarnation, has told, and that the log may lack yet."""
        self.unheard = {each.offset for each in transitions if each.kind == ENDED and not self.has_ended(each.offset)}
        self.fold(transitions, incarnation)

    def _counts(self, late: Transition) -> bool:
        """True if what comes with an end counts, although this process knows an end of the task already."""
        return late.kind not in (HELD, REMEMBERED) or (late.kind == REMEMBERED and late.offset in self.unheard)

    def commit(self) -> tuple[int, str]:
        """The offset to commit, and the metadata of the commit."""
        return self.progress.low, self.progress.metadata(self.queue)

    def merge(self, progress: Progress, parked: Mapping[int, Lane]) -> None:
        """Adds progress and parked records from another source. An end counts, whichever worker has seen it."""
        for offset in [each for each in self.parked if progress.has_ended(each) and each not in parked]:
            del self.parked[offset]
        new = {offset: lane for offset, lane in parked.items() if not self.progress.has_ended(offset)}
        self.progress.merge(progress)
        self.parked.update(new)
        self.tidy()

    def take_commit(self, progress: Progress) -> None:
        """Adds a commit. It does not name parked records, so all transitions written before it must be folded already."""
        self.progress.merge(progress)
        self.progress.check_in(progress.checkpoint, progress.folded)
        self.tidy()

    def tidy(self) -> None:
        """Forgets leases and attempts of tasks whose end has no transition: the record was purged, or never seen."""
        for offset in [each for each in self.attempts if self.has_ended(each)]:
            self.end(offset)

    def _start(self, offset: int, lease: Lease) -> None:
        """Notes a start that an incarnation has told. Of two starts with one number the first in the log counts.

        One without a rival counts whatever its number: who has told it may not have known yet how often the task was begun.
        """
        before = self.leases.get(offset)
        if before is None:
            if not self.has_ended(offset):
                self.leases[offset] = lease
                self.attempts[offset] = max(lease.attempt, self.attempts.get(offset, 0))
        elif before.incarnation == lease.incarnation or before.attempt < lease.attempt:
            self._displace(offset, lease, by=lease.incarnation)

    def _displace(self, offset: int, lease: Lease, by: str) -> None:
        before = self.leases.get(offset)
        self.lease(offset, lease)
        if before is not None and before.incarnation not in (self.leases[offset].incarnation, by):
            self.displaced[offset] = before

    def lease(self, offset: int, lease: Lease) -> None:
        # A start of an older attempt than the last one comes late, from a worker that has lost the task: it changes nothing.
        if lease.attempt >= self.attempts.get(offset, 0) and not self.has_ended(offset):
            self.attempts[offset] = lease.attempt
            self.leases[offset] = lease

    def _apply_to_lane(self, transition: Transition) -> None:
        with suppress(ValueError):  # a later version has written it
            if transition.kind == HELD:
                kind, name, task_id, retries = transition.about
                lane, run = lane_of(kind, name), run_of(task_id, retries)
                self.hold(lane, run, transition.offset)
                if sent_by(transition.offset) in self.remembered:  # that run is over: this was refused, and comes late
                    self.free(lane, run)
            elif transition.kind == FREED:
                kind, name, *awaited = transition.about
                self.free(lane_of(kind, name), run_of(*awaited) if len(awaited) == 2 else None)
            elif transition.kind == PARKED:
                kind, name, *offsets = transition.about
                self.park(lane_of(kind, name), [whole(offset, most=FARTHEST) for offset in offsets])
            elif transition.kind == REMEMBERED:
                self.remember(*memory_of(transition.about))

    def _release(self, offset: int, told: Lease) -> None:
        """Notes that an incarnation runs a task no more. A record that is written twice does not end a later run."""
        for leases, forget in ((self.leases, self.release), (self.displaced, self.displaced.pop)):
            lease = leases.get(offset)
            if lease is not None and lease.incarnation == told.incarnation and lease.attempt <= told.attempt:
                forget(offset)
                return
