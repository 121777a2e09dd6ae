"""The fold of one partition's journal: which tasks have ended, which ones run where, and how often each was begun."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

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
    attempt_of,
    lane_of,
    memory_of,
    object_of,
    run_of,
    transitions_of,
)
from kafka_exec.core.record.fields import a_list, an_object, text, whole

#: A record of a checkpoint has about so many bytes at most, so that no topic refuses it.
_MOST_BYTES = 256 * 1024

#: A process that runs tasks of another owner knows about so many runs of their ends at least. The journal has them all.
_MOST_FOREIGN = 10_000

#: The bytes of a number, and those of a character, in a record at most.
_NUMBER, _CHARACTER = 20, 6


@dataclass
class Ledger:
    """The state of one partition's tasks.

    Attributes:
        queue: the id of the queue's topic. A topic that was deleted and made again has other offsets, so records with
            another id do not count.
        progress: the offsets that were read, and those that have ended; parked records count as ended there.
        leases: the leases of tasks that have not ended, by offset.
        displaced: the leases of begun tasks in whose place another incarnation's has come. That one may be told late, by a
            worker that did not know of the lease: when it is over, the former one counts again.
        attempts: how often each task that has not ended was begun, by offset.
        holds: the held lanes, and the run that each waits for.
        holders: the records whose ends hold them, by lane; -1: a checkpoint of an earlier version does not name it.
        places: the records whose places in held lanes those runs have, by lane: the first ones of their tasks.
        parked: the lanes of parked records, by offset.
        remembered: the ends of tasks whose copies are dropped, by :attr:`Ticket.once`; the latest last.
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

    @property
    def needed(self) -> int:
        """The lowest offset that is still needed: all records of the queue below it may be deleted."""
        return min(self.progress.low, min(self.parked, default=self.progress.low))

    def has_ended(self, offset: int) -> bool:
        """True if a task has ended."""
        return self.progress.has_ended(offset) and offset not in self.parked

    def start(self, offset: int, incarnation: str) -> Lease:
        """Notes that an incarnation begins a task."""
        self._lease(offset, Lease(incarnation, self.attempts.get(offset, 0) + 1))
        return self.leases[offset]

    def grant(self, offset: int, incarnation: str) -> Lease:
        """Notes that another incarnation is to begin a task: it has a lease from now on."""
        self._lease(offset, Lease(incarnation, self.attempts.get(offset, 0)))
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
        self.holds, self.holders, self.places = {}, {}, {}

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

        Of two ends of a task the first counts: by the later one no lane waits for another run, and no retry is a copy.
        """
        late: set[int] = set()
        for transition in transitions:
            if transition.kind == STARTED:
                self._start(transition.offset, Lease(incarnation, transition.attempt))
            elif transition.kind == GRANTED:
                self._displace(transition.offset, Lease(transition.about[0], transition.attempt))
            elif transition.kind == ENDED:
                if self.has_ended(transition.offset):
                    late.add(transition.offset)
                self.end(transition.offset)
            elif transition.kind == RELEASED:
                self._release(transition.offset, Lease(incarnation, transition.attempt))
            elif transition.kind not in (HELD, REMEMBERED) or transition.offset not in late:
                self._apply_to_lane(transition)

    def commit(self) -> tuple[int, str]:
        """The offset to commit, and the metadata of the commit."""
        return self.progress.low, self.progress.metadata(self.queue)

    def checkpoint(self, incarnation: str, folded: int = 0) -> list[bytes]:
        """The values of the journal records that together hold the whole state: the first says how many they are.

        Args:
            folded: the offset up to which the journal is folded in it.
        """
        self.tidy()
        parts: list[dict[str, list[Any]]] = [{}]
        size = 0
        for name, entry in self._entries():
            size += sum(_CHARACTER * len(each) if isinstance(each, str) else _NUMBER for each in entry)
            if size > _MOST_BYTES:
                parts.append({})
                size = 0
            parts[-1].setdefault(name, []).append(entry)
        # Parked records may be in another part, so they do not count as ended here.
        parts[0] |= {"progress": self.progress.without(self.parked).as_json()}
        # A record may be written twice, or come late between those of the next checkpoint: so each has a number and a name.
        name = f"{crc32(repr(parts).encode()):x}"
        common = {"incarnation": incarnation, "queue": self.queue, "name": name, "folded": folded, "parts": len(parts)}
        return [
            json.dumps({**common, "part": number, "checkpoint": part}, separators=(",", ":")).encode()
            for number, part in enumerate(parts)
        ]

    def _entries(self) -> Iterator[tuple[str, list[Any]]]:
        for offset, lease in self.leases.items():
            yield "leases", [offset, *lease]
        for offset, lease in self.displaced.items():
            yield "displaced", [offset, *lease]
        for offset, attempts in self.attempts.items():
            yield "attempts", [offset, attempts]
        for lane, run in self.holds.items():
            yield "holds", [*lane, *run]
        for lane, offset in self.holders.items():
            yield "holders", [*lane, offset]
        for lane, offset in self.places.items():
            yield "places", [*lane, offset]
        for offset, lane in self.parked.items():
            yield "parked", [*lane, [offset]]
        for name, memory in self.remembered.items():
            yield "remembered", [name, *memory]

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
            self._displace(offset, lease)

    def _displace(self, offset: int, lease: Lease) -> None:
        before = self.leases.get(offset)
        self._lease(offset, lease)
        if before is not None and before.attempt and before.incarnation != self.leases[offset].incarnation:
            self.displaced[offset] = before

    def _lease(self, offset: int, lease: Lease) -> None:
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

    def restore(self, value: bytes | None, told: Container[Lane] = ()) -> int:
        """Adds a record of a checkpoint. Returns the number of records of the whole checkpoint; 0 if it is none.

        A checkpoint counts only if a commit names it, or there is no commit any more: the writer of another one may not have
        owned the partition.

        Args:
            told: the lanes of which the transitions before it have told: it may have been made before these.
        """
        with suppress(ValueError, KeyError):  # a later version has written it: that costs repeated runs, never a loss
            record = object_of(value)
            if record.get("queue") != self.queue:
                return 0
            state = an_object(record["checkpoint"])
            progress = Progress.from_json(state["progress"]) if "progress" in state else Progress(0)
            waiting = {
                whole(offset): lane_of(kind, name)
                for kind, name, offsets in _entries_of(state, "parked")
                for offset in a_list(offsets)
            }
            attempts = [(whole(offset), attempt_of(number)) for offset, number in _entries_of(state, "attempts")]
            leases, displaced = (
                [
                    (whole(offset), Lease(text(incarnation), attempt_of(attempt)))
                    for offset, incarnation, attempt in _entries_of(state, name)
                ]
                for name in ("leases", "displaced")
            )
            holds = [
                (lane_of(kind, name), run_of(task_id, retries))
                for kind, name, task_id, retries in _entries_of(state, "holds")
            ]
            holders, places = (
                [(lane_of(kind, name), whole(offset, least=-1)) for kind, name, offset in _entries_of(state, each)]
                for each in ("holders", "places")
            )
            remembered = [memory_of(each) for each in _entries_of(state, "remembered")]
            parts = whole(record.get("parts", 1), most=FARTHEST)
            # The whole record is valid, so it is taken as a whole; else nothing of it counts.
            self.merge(progress, waiting)
            for offset, lane in waiting.items():
                self.park(lane, [offset])
            for offset, number in attempts:
                if not self.has_ended(offset):
                    self.attempts[offset] = max(number, self.attempts.get(offset, 0))
            for offset, lease in leases:
                self._lease(offset, lease)
            self.displaced.update((offset, lease) for offset, lease in displaced if not self.has_ended(offset))
            for lane, run in holds:
                if lane not in told:
                    self.holds[lane], self.holders[lane], self.places[lane] = run, -1, -1
            # The run that a lane waits for, and the record that holds it, may be in two records of the checkpoint.
            self.holders.update((lane, offset) for lane, offset in holders if lane not in told)
            self.places.update((lane, offset) for lane, offset in places if lane not in told)
            for name, memory in remembered:
                self.remember(name, memory)
            return parts
        return 0


def _entries_of(state: Mapping[str, Any], name: str) -> list[list[Any]]:
    return [a_list(entry) for entry in a_list(state.get(name, []))]
