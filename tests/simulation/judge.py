"""The judge of a simulation: it sees all runs, ends and commits, and knows what must never be.

It keeps a log of effects outside of the simulated workers, and holds these rules:

- *No begin after a known end.* An end is known when it is in the journal or in a commit. A begin is the start in a process
  of the pool, a while after the worker has asked if it may.
- *One run at a time*: of a record, of the records of an ordering key, and of the copies of a task.
- *The order of a key*: a task's first begin comes after the ends of all tasks before it, with their retries.
- *One of the copies*: of the records of one deduplication id, or of one retry, only one ever begins.
- *No commit ahead*: what it covers has ended, or is parked, or is a copy; and whoever restores the partition from the log
  at that moment knows all known ends, and the lanes that wait for a retry.
- *Nothing lost, nothing stuck, nothing kept*: see :mod:`tests.simulation.quiet`.

The first two rules are excused, as the guarantees say, for these and nothing else:

- the worker that begins is cut off from the brokers, or was until a moment ago (``_LEARNS``): it cannot know that it has
  lost the partition;
- of two runs at a time: the worker of the first one is stopped, or cut off, during its run, so that others took it for lost.

That a worker was stopped is no excuse for what it begins when it goes on.
"""

from __future__ import annotations

from collections import defaultdict
from enum import Enum, auto
from typing import TYPE_CHECKING

from kafka_exec.core.queue.lanes import STOPPED, Lane, Run
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.restoring import JournalEntry, restore
from kafka_exec.core.queue.transitions import ENDED, object_of, transitions_of
from tests.simulation.brokers import Place, Record

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.world import World

#: After a cut a worker learns within so many seconds that it is no member any more: its next heartbeat says so.
_LEARNS = 3.0

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
        self.runs = 0
        self._known_by_commits: set[Place] = set()
        self._world = world
        self._running: dict[object, list[TaskRun]] = defaultdict(list)
        self._began: set[Place] = set()
        self._succeeded: set[Place | None] = set()
        self._once: dict[object, Place] = {}
        self._lanes: dict[Place_of_lane, list[Record]] = defaultdict(list)
        self._covered: dict[tuple[str, int], int] = defaultdict(int)

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
        if known is not None and not _may_not_know(run):
            raise Violation("begun after its end", run, f"which was known at {known:.3f}")
        for other in self._running[_exclusive(record)]:
            if not (_may_not_know(run) or _may_be_lost(other, run.started)):
                raise Violation("two runs at once", run, "and", other, f"from {other.started:.3f} on")
        self._running[_exclusive(record)].append(run)
        if place not in self._began:
            self._began.add(place)
            self._first_begin(record)

    def _first_begin(self, record: Record) -> None:
        place, task = record.place, record.task
        for once in _names(record):
            if self._once.setdefault(once, place) != place:
                raise Violation("a copy begins", record, "of", self._once[once])
        if (awaited := self.awaited.get(_lane(record))) is not None and awaited[0] == record.run:
            del self.awaited[_lane(record)]
        if not task.key or record.run.retries:
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
        self._world.note(run.node.incarnation, "ends", record)
        self.acknowledged[record.place] = outcome
        lane = _lane(record)
        if outcome is Outcome.SUCCESS:
            self.over.add((record.place.topic, record.task.id))
            self._succeeded.add(record.place)
            if lane in self.awaited and self.awaited[lane][1] == record.place:
                del self.awaited[lane]
        elif record.task.key or record.task.unique:
            is_stop = outcome is Outcome.STOP
            self.awaited[lane] = record.run._replace(retries=STOPPED) if is_stop else record.run.next, record.place

    def expires(self, record: Record, node: Node) -> None:
        self._world.note(node.incarnation, "expires", record)
        self.over.add((record.place.topic, record.task.id))
        self.acknowledged[record.place] = Outcome.SUCCESS

    def freed(self, place: Place_of_lane) -> None:
        """Notes that an operator has freed a stopped lane."""
        if (awaited := self.awaited.pop(place, None)) is not None:
            self.over.add((place[0], awaited[0].task_id))

    def told(self, partition: int, value: bytes) -> None:
        """Notes a record of the journal."""
        found = object_of(value)
        for each, _ in transitions_of(found):
            if each.kind == ENDED:
                place = Place(found["queue"], partition, each.offset)
                self.known_ends.setdefault(place, self._world.now)
                self._known_by_commits.discard(place)

    def forgets_commits(self) -> None:
        for place in self._known_by_commits:
            del self.known_ends[place]
        self._known_by_commits.clear()

    # -- commits -------------------------------------------------------------------------------------------------------

    def commits(self, partition: int, offset: int, metadata: str, *, thoroughly: bool) -> None:
        topic = self._world.topic
        progress = Progress.restore(offset, metadata, topic.id)
        if progress is None:
            return  # it is of a topic that is gone
        covered = self._covered[topic.id, partition]
        self._covered[topic.id, partition] = max(covered, offset)
        log = topic.partitions[partition]
        new = [record for each in range(covered, offset) if (record := log.found.get(each)) is not None]
        for record in new:
            if (
                self.has_ended(record) and record.place not in self.known_ends
            ):  # else it is parked, as is looked at next
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

    def has_ended(self, record: Record) -> bool:
        """True if a record has ended, or is a copy that must not run."""
        return record.place in self.acknowledged or self.is_copy(record)

    def is_copy(self, record: Record) -> bool:
        topic, partition, _ = record.place
        for name in _names(record):
            if self._once.get(name, record.place) != record.place:
                return True
        if record.task.unique and not record.run.retries and (topic, record.task.id) in self.over:
            return True
        # The run that has sent this retry was lost, and its second run has ended the task.
        origin = None if record.sent_by is None else Place(topic, partition, record.sent_by)
        return origin in self._succeeded


def _lane(record: Record) -> Place_of_lane:
    return record.place.topic, record.place.partition, record.lane


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
    """True if the worker of a run may have been taken for lost since."""
    return any(begin <= now and run.started <= end + _LEARNS for begin, end in [*run.node.cuts, *run.node.pauses])
