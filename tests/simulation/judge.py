"""The judge of a simulation: it sees all runs, ends and commits, and knows what must never be.

It keeps a log of effects outside of the simulated workers, and holds these rules:

- *No begin after a known end.* An end is known when it is in the journal or in a commit; and that of a worker that was taken
  for lost ``_HEARS`` later, since the new owner does not wait for it. A begin is the start in a process of the pool, a while
  after the worker has asked if it may.
- *One run at a time*: of a record, of the records of an ordering key, and of the copies of a task.
- *The order of a key*: a task's first begin comes after the ends of all tasks before it, with their retries.
- *One of the copies*: of the records of one deduplication id, or of one retry, only one ever begins; and none of a retry if
  the run that has sent it was lost, and its repetition has ended the task.
- *No commit ahead*: what it covers has ended, or is parked, or is a copy; and whoever restores the partition from the log
  at that moment knows all known ends, the lanes that wait for a retry, and no stop of a key that was freed. No commit goes
  back.
- *Nothing lost, nothing stuck, nothing kept*: see :mod:`tests.simulation.quiet`.

The first two rules are excused, as the guarantees say, for these and nothing else:

- the worker that begins is cut off from the brokers, or was until a moment ago (``_LEARNS``): it cannot know that it has
  lost the partition;
- of two runs at a time: the worker of the first one is stopped, or cut off, during its run, so that others took it for lost,
  or it has given its partition away, and could not tell that it has begun a task whose begin need not be durable;
  or its task has ended in another run, which was excused; or its record was deleted by an operator, or another one of its
  key, which ran all the same and is retried.

That a worker was stopped is no excuse for what it begins when it goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

from kafka_exec.core.queue.lanes import Lane, Run
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.restoring import JournalEntry, restore
from kafka_exec.core.queue.transitions import ENDED, FREED, HELD, PARKED, STARTED, object_of, transitions_of
from tests.simulation.brokers import Place, Record

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.world import World

#: After a cut a worker learns within so many seconds that it is no member any more: its next heartbeat says so.
_LEARNS = 3.0

#: A new owner reads the end that a lost worker tells within so many seconds, unless it reads slowly.
_HEARS = 2.0

#: A lane of one topic's partition.
Place_of_lane = tuple[str, int, Lane]


class Violation(AssertionError):
    """A rule is broken. ``rule``: its name."""

    def __init__(self, rule: str, *details: object) -> None:
        super().__init__(f"{rule}: {' '.join(map(str, details))}")
        self.rule = rule


class Outcome(Enum):
    """The outcome of a run."""

    SUCCESS = auto()
    RETRY = auto()
    STOP = auto()
    BROKEN_OFF = auto()


class TaskRun:
    """A run of a task."""

    def __init__(self, record: Record, node: Node) -> None:
        self.record, self.node, self.started = record, node, 0.0
        self.outcome: Outcome | None = None

    def __repr__(self) -> str:
        return f"{self.record} on {self.node.incarnation}"


class Judge:
    """The judge of one simulation."""

    def __init__(self, world: World) -> None:
        self.known_ends: dict[Place, float] = {}
        #: The tasks that are over: ended for good, expired, or passed by since an operator has freed their lane.
        self.over: set[tuple[str, str]] = set()
        self.acknowledged: dict[Place, Outcome] = {}
        #: The runs that lanes wait for, and the record whose end made them wait.
        self.awaited: dict[Place_of_lane, tuple[Run, Place]] = {}
        #: The records that an operator has deleted before they had ended.
        self.purged: set[Place] = set()
        self.runs = 0
        self._freed: set[tuple[Place_of_lane, Run]] = set()
        self._known_by_commits: set[Place] = set()
        self._told_late: set[Place] = set()
        self._parked: set[Place] = set()
        self._world = world
        self._running: dict[object, list[TaskRun]] = defaultdict(list)
        self._began: set[Place] = set()
        self._final: set[Place | None] = set()
        # The last run of each record to start; when the journal had the first start of each; and when it was known that a
        # repetition has ended the task.
        self._last: dict[Place, TaskRun] = {}
        self._told_first: dict[Place, tuple[float, str]] = {}
        self._repeated: dict[Place, float] = {}
        self._ended_by: dict[tuple[Place, str], TaskRun] = {}
        self._once: dict[object, Place] = {}
        self._lanes: dict[Place_of_lane, list[Record]] = defaultdict(list)
        # The lanes that wait, or have waited, for the retry of a deleted record. They have gone on before without it, so two
        # of their tasks may be retried at a time.
        self._disturbed: set[Place_of_lane] = set()
        self._covered: dict[tuple[str, int], int] = defaultdict(int)
        self._committed: dict[tuple[str, int], tuple[int, int]] = defaultdict(lambda: (0, 0))

    # -- what happens --------------------------------------------------------------------------------------------------

    def sent(self, record: Record) -> None:
        if record.task.key and not record.run.retries:
            self._lanes[_lane(record)].append(record)

    def starts(self, run: TaskRun) -> None:
        self.runs += 1
        run.started = self._world.now
        record, place = run.record, run.record.place
        self._world.note(run.node.incarnation, "starts", record)
        if place.topic != self._world.topic.id:
            return  # its topic is gone, and with it all that is promised
        known = self.known_ends.get(place)
        is_slow = place in self._told_late and known is not None and known - _HEARS < run.node.slow_until
        may_not_know = is_slow or place in self.purged or _may_not_know(run)
        if known is not None and known < run.started and not may_not_know:
            raise Violation("begun after its end", run, f"which was known at {known:.3f}")
        for other in self._running[_exclusive(record)]:
            is_excused = _may_not_know(run) or _may_be_lost(other, run.started)
            is_excused |= other.record.place in self.known_ends
            if not (is_excused or self._is_of_deleted(record) or self._is_of_deleted(other.record)):
                raise Violation("two runs at once", run, "and", other, f"from {other.started:.3f} on")
        self._running[_exclusive(record)].append(run)
        self._last[place] = run
        self._repeated.pop(place, None)
        if place not in self._began:
            self._began.add(place)
            self._first_begin(run)

    def _first_begin(self, run: TaskRun) -> None:
        record, place, task = run.record, run.record.place, run.record.task
        if place in self.purged:
            return
        origin = _origin(record)
        if origin in self._repeated and self._repeated[origin] < run.started and not _may_not_know(run):
            raise Violation(
                "a copy begins", run, "was sent by a run that was lost, and its repetition has ended the task"
            )
        for once in _names(record):
            if self._once.setdefault(once, place) != place:
                raise Violation("a copy begins", record, "of", self._once[once])
        if (awaited := self.awaited.get(_lane(record))) is not None and awaited[0] == record.run:
            del self.awaited[_lane(record)]
        if not task.key or record.run.retries or _lane(record) in self._disturbed:
            return
        lane = self._lanes[_lane(record)]
        while lane and (place.topic, lane[0].task.id) in self.over:
            del lane[0]
        if lane and lane[0].place < place:
            raise Violation("order of a key", record, "before", lane[0])

    def finishes(self, run: TaskRun, outcome: Outcome) -> None:
        self._world.note(run.node.incarnation, "finishes", run.record, outcome.name)
        running = self._running[_exclusive(run.record)]
        running[:] = [each for each in running if each is not run]

    def dies(self, node: Node) -> None:
        for runs in self._running.values():
            runs[:] = [each for each in runs if each.node is not node]

    def acknowledges(self, run: TaskRun, outcome: Outcome) -> None:
        record = run.record
        run.outcome = outcome
        self._world.note(run.node.incarnation, "ends", record)
        self.acknowledged[record.place] = outcome
        self._ended_by[record.place, run.node.incarnation] = run
        if outcome is not Outcome.RETRY:
            self._final.add(record.place)
        if outcome is Outcome.SUCCESS:
            self.over.add((record.place.topic, record.task.id))

    def expires(self, record: Record, node: Node) -> None:
        self._world.note(node.incarnation, "expires", record)
        self.over.add((record.place.topic, record.task.id))
        self.acknowledged[record.place] = Outcome.SUCCESS

    def deletes(self, records: Sequence[Record]) -> None:
        """Notes that an operator has deleted records that had not ended. A worker that has read them may still run them."""
        for record in records:
            self.over.add((record.place.topic, record.task.id))
            self.purged.add(record.place)
        self._once = {name: place for name, place in self._once.items() if place not in self.purged}

    def _is_of_deleted(self, record: Record) -> bool:
        """True if an operator has deleted a record, or the one whose run has sent it: its key did not wait for it."""
        return _lane(record) in self._disturbed or record.place in self.purged or _origin(record) in self.purged

    def freed(self, topic: str, task_id: str) -> None:
        """Notes that an operator has freed a lane that a task had stopped."""
        self.over.add((topic, task_id))

    def told(self, partition: int, value: bytes) -> None:
        """Notes a record of the journal."""
        found = object_of(value)
        first: set[int] = set()
        for each, incarnation in transitions_of(found):
            place = Place(found["queue"], partition, each.offset)
            if each.kind == ENDED:
                self._known_by_commits.discard(place)
                run = self._ended_by.get((place, incarnation))
                if place not in self.known_ends:
                    first.add(each.offset)
                    if run is not None and run.outcome is not Outcome.RETRY and self._is_repetition(run):
                        self._repeated[place] = self._world.now + _HEARS
                    node = self._world.incarnations[incarnation]
                    is_late = partition not in node.owned or node.dead
                    is_late |= run is not None and _may_be_lost(run, self._world.now)
                    self.known_ends[place] = self._world.now + (_HEARS if is_late else 0.0)
                    if is_late:
                        self._told_late.add(place)
            elif each.kind == PARKED:
                self._parked |= {place._replace(offset=offset) for offset in each.about[2:]}
            elif each.kind == STARTED:
                self._told_first.setdefault(place, (self._world.now, incarnation))
            elif each.kind in (HELD, FREED):
                lane, awaited = (place.topic, partition, Lane(*each.about[:2])), Run(*each.about[2:])
                if each.kind == HELD:
                    self._held(lane, awaited, place, is_first=each.offset in first)
                    continue
                if awaited.is_stop:
                    self._freed.add((lane, awaited))
                if lane in self.awaited and self.awaited[lane][0] == awaited:
                    del self.awaited[lane]

    def _held(self, lane: Place_of_lane, awaited: Run, place: Place, *, is_first: bool) -> None:
        if (lane, awaited) in self._freed:
            return  # it was refused, and comes behind the record that frees the lane
        if place in self.purged:
            self._disturbed.add(lane)
        if lane not in self._disturbed:
            if is_first:
                self.awaited[lane] = awaited, place
        elif lane in self.awaited and self.awaited[lane][1] < place:
            # A deleted record ran all the same, or its retry: that takes the place of what its lane waits for.
            self.over.add((place.topic, self.awaited.pop(lane)[0].task_id))

    def _is_repetition(self, run: TaskRun) -> bool:
        """True if this is the last run of a record, and its worker knew that another one had begun it."""
        place = run.record.place
        at, first = self._told_first.get(place, (run.started, ""))
        return run is self._last.get(place) and first != run.node.incarnation and at + _HEARS < run.started

    def forgets_commits(self) -> None:
        for place in self._known_by_commits:
            del self.known_ends[place]
        self._known_by_commits.clear()
        self._committed.clear()

    # -- commits -------------------------------------------------------------------------------------------------------

    def commits(self, partition: int, offset: int, metadata: str, *, thoroughly: bool) -> None:
        topic = self._world.topic
        progress = Progress.restore(offset, metadata, topic.id)
        if progress is None:
            return  # it is of a topic that is gone
        before = self._committed[topic.id, partition]
        if offset < before[0] or progress.folded < before[1]:
            raise Violation("commit goes back", partition, offset, metadata, "from", before)
        self._committed[topic.id, partition] = offset, progress.folded
        covered = self._covered[topic.id, partition]
        self._covered[topic.id, partition] = max(covered, offset)
        log = topic.partitions[partition]
        new = [record for each in range(covered, offset) if (record := log.found.get(each)) is not None]
        for record in new:
            # The commit passes parked records, and copies, though they may run: the journal tells their ends.
            is_known = record.place in self.known_ends or record.place in self._parked
            if record.place in self.acknowledged and not is_known:
                self.known_ends[record.place] = self._world.now
                self._known_by_commits.add(record.place)
        if thoroughly or any(not self.has_ended(record) for record in new):
            self._compare(partition, progress)

    def _compare(self, partition: int, progress: Progress) -> None:
        """Compares what a new owner would restore from the log now with what is known."""
        topic, journal = self._world.topic, self._world.journal[partition]
        start = max(progress.folded, journal.start)
        ledger, _ = restore(
            topic.id, [JournalEntry(at, journal.found[at].value) for at in range(start, journal.end)], progress
        )
        for record in topic.partitions[partition].found.values():
            if record is None:
                continue
            knows = ledger.has_ended(record.place.offset)
            if knows and not self.has_ended(record):
                raise Violation("commit ahead", record, "has not ended")
            if not knows and record.place in self.known_ends and record.place.offset not in ledger.parked:
                raise Violation("an end is forgotten", record)
        for (name, number, lane), (run, place) in self.awaited.items():
            is_here = (name, number) == (topic.id, partition)
            if is_here and ledger.has_ended(place.offset) and ledger.holds.get(lane) != run:
                raise Violation("commit ahead", f"{lane} is not held for {run} any more")
        for lane, run in ledger.holds.items():
            if ((topic.id, partition, lane), run) in self._freed:
                raise Violation("a freed key is stopped", lane, "by", run)

    def has_ended(self, record: Record) -> bool:
        """True if a record has ended, or was deleted, or is a copy that must not run."""
        return record.place in self.acknowledged or record.place in self.purged or self.is_copy(record)

    def is_copy(self, record: Record) -> bool:
        for name in _names(record):
            if self._once.get(name, record.place) != record.place:
                return True
        if record.task.unique and not record.run.retries and (record.place.topic, record.task.id) in self.over:
            return True
        # The run that has sent this retry was lost, and its second run has ended the task, or it was deleted.
        return _origin(record) in self._final or _origin(record) in self.purged


def _lane(record: Record) -> Place_of_lane:
    return record.place.topic, record.place.partition, record.lane


def _origin(record: Record) -> Place | None:
    """The record whose run has sent a retry."""
    return None if record.sent_by is None else record.place._replace(offset=record.sent_by)


def _exclusive(record: Record) -> object:
    """Only one of the records with this value may run at a time."""
    is_in_lane = record.task.key or record.task.unique or record.sent_by is not None
    return _lane(record) if is_in_lane else record.place


def _names(record: Record) -> list[object]:
    """Only one of the records with one of these names may ever begin."""
    topic, partition, _ = record.place
    names: list[object] = [] if record.sent_by is None else [(topic, partition, record.sent_by)]
    return [*names, (topic, record.task.unique)] if record.task.unique and not record.run.retries else names


def _may_not_know(run: TaskRun) -> bool:
    """True if the worker that begins a run cannot know that another one has run it."""
    return any(begin <= run.started <= end + _LEARNS for begin, end in run.node.cuts)


def _may_be_lost(run: TaskRun, now: float) -> bool:
    """True if the worker of a run may have been taken for lost since, or could not tell that it has begun the task.

    It could if the task has a key, or a deduplication id: such a task runs only when its begin is durable.
    """
    node, task = run.node, run.record.task
    excuses = [*node.cuts, *node.pauses, *(() if task.key or task.unique else node.untold)]
    return any(begin <= now and run.started <= end + _LEARNS for begin, end in excuses)
