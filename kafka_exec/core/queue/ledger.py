"""The fold of one partition's journal: which tasks have ended, which ones run where, and how often each was begun.

A journal has the same partitions as its queue. Its records are JSON: *transitions* of tasks, written by the workers that run
them, and *checkpoints*, the state of the whole fold. A task is named by its offset in the queue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka_exec.core.queue.lanes import STOPPED, Lane, Run
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.record.fields import a_list, an_object, from_json, number, text, whole

STARTED = "s"
ENDED = "e"
RELEASED = "r"
GRANTED = "g"
HELD = "h"
FREED = "f"
REMEMBERED = "m"
PARKED = "p"
OF_LANES = frozenset({HELD, FREED, REMEMBERED, PARKED})

#: The number of ends in a partition that are remembered, so that a message that is sent twice is dropped.
MOST_REMEMBERED = 10_000

#: The largest offset of a transition: sums with it still fit into 64 bits.
_FARTHEST = 2**62

#: Attempts are counted up to this number.
_MOST_ATTEMPTS = 10**9


class Transition(NamedTuple):
    """One event of a task, or of its lane.

    ==============  ================================================  =====================================================
    kind            the event                                         ``about``
    ==============  ================================================  =====================================================
    ``STARTED``     the task begins
    ``ENDED``       the task has ended
    ``RELEASED``    the task runs no more, and has not ended
    ``GRANTED``     another incarnation gets the task                 that incarnation
    ``HELD``        the task has ended, and its lane waits for a run  the lane's kind and name; the run's id and retries
    ``FREED``       a lane waits no more                              the lane's kind and name; the run, or none for any run
    ``REMEMBERED``  copies of an ended task are dropped               its name, its end in epoch seconds, its task's hash
    ``PARKED``      the commit counts waiting tasks as ended          the lane's kind and name; the offsets
    ==============  ================================================  =====================================================

    Attributes:
        attempt: the number of the start, from 1; of a grant, the number of the last start; 0 where it does not matter.
    """

    kind: str
    offset: int
    attempt: int = 0
    about: tuple[Any, ...] = ()


class Memory(NamedTuple):
    """The end of a task whose copies are dropped. ``at``: epoch seconds; ``task``: its :attr:`Ticket.kind`."""

    at: float
    task: str = ""


class Lease(NamedTuple):
    """A task that has begun and not ended. ``incarnation``: that which runs it; ``attempt``: which start, from 1."""

    incarnation: str
    attempt: int


def granted(offset: int, lease: Lease) -> Transition:
    """The transition that gives a task to another incarnation."""
    return Transition(GRANTED, offset, lease.attempt, (lease.incarnation,))


def held(offset: int, lane: Lane, run: Run) -> Transition:
    """The transition that holds a lane, after the end of a task, until a run comes."""
    return Transition(HELD, offset, 0, (*lane, *run))


def freed(offset: int, lane: Lane, run: Run | None = None) -> Transition:
    """The transition that frees a lane if it waits for ``run``; None: for any run."""
    return Transition(FREED, offset, 0, (*lane, *(run or ())))


def remembered(offset: int, name: str, at: float, task: str) -> Transition:
    """The transition that remembers an end under the name :attr:`Ticket.once`. ``at``, ``task``: as in :class:`Memory`."""
    return Transition(REMEMBERED, offset, 0, (name, at, task))


def parked(lane: Lane, offsets: Sequence[int]) -> Transition:
    """The transition that parks records of a lane: commits count them as ended from now on, although they have not."""
    return Transition(PARKED, -1, 0, (*lane, *offsets))


def encode(incarnation: str, queue: str, transitions: Iterable[Transition]) -> bytes:
    """The value of a journal record with transitions that an incarnation writes. ``queue``: see :class:`Ledger`."""
    told = {"incarnation": incarnation, "queue": queue, "t": [[*each[:3], *each.about] for each in transitions]}
    return json.dumps(told, separators=(",", ":")).encode()


@dataclass
class Ledger:
    """The state of one partition's tasks.

    Attributes:
        queue: the id of the queue's topic. A topic that was deleted and made again has other offsets, so records with
            another id do not count.
        progress: the offsets that were read, and those that have ended; parked records count as ended there.
        leases: the leases of tasks that have not ended, by offset.
        attempts: how often each task that has not ended was begun, by offset.
        holds: the held lanes, and the run that each waits for.
        parked: the lanes of parked records, by offset.
        remembered: the ends of tasks whose copies are dropped, by :attr:`Ticket.once`; the latest last.
    """

    queue: str
    progress: Progress
    leases: dict[int, Lease] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    holds: dict[Lane, Run] = field(default_factory=dict)
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
        attempt = self.attempts.get(offset, 0) + 1
        self._started(offset, Lease(incarnation, attempt))
        return self.leases[offset]

    def grant(self, offset: int, incarnation: str) -> Lease:
        """Notes that another incarnation is to begin a task: it has a lease from now on."""
        self._started(offset, Lease(incarnation, self.attempts.get(offset, 0)))
        return self.leases[offset]

    def end(self, offset: int) -> None:
        """Notes that a task has ended, whichever worker ran it. A second call changes nothing."""
        self.progress.end(offset)
        self.parked.pop(offset, None)
        self.leases.pop(offset, None)
        self.attempts.pop(offset, None)

    def release(self, offset: int) -> None:
        """Notes that no worker runs a task any more, and that it has not ended: it may be begun again."""
        self.leases.pop(offset, None)

    def hold(self, lane: Lane, run: Run) -> None:
        """Notes that a lane waits for a run."""
        self.holds[lane] = run

    def free(self, lane: Lane, run: Run | None = None) -> None:
        """Notes that a lane waits no more, if it waited for ``run``; None: for any run."""
        if run is None or self.holds.get(lane) == run:
            self.holds.pop(lane, None)

    def park(self, lane: Lane, offsets: Iterable[int]) -> None:
        """Notes that records that wait in a lane are parked: the commit counts them as ended."""
        for offset in offsets:
            if not self.progress.has_ended(offset):
                self.progress.end(offset)
                self.parked[offset] = lane

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

    def apply(self, value: bytes | None, *, trusted: bool = False) -> bool:
        """Folds a record of the journal. Returns False if it is none; then it changes nothing.

        Args:
            trusted: the commit names this record, or there is no commit any more. Other checkpoints do not count, because
                their writer may not have owned the partition any more.
        """
        found = _object(value)
        if found.get("queue") != self.queue:
            return "queue" in found
        for transition, incarnation in _transitions(found):
            self.fold([transition], incarnation)
        if trusted:
            self._restore(found.get("checkpoint"))
        return True

    def fold(self, transitions: Iterable[Transition], incarnation: str) -> None:
        """Folds transitions that an incarnation has written."""
        for transition in transitions:
            if transition.kind == STARTED:
                self._started(transition.offset, Lease(incarnation, transition.attempt))
            elif transition.kind == GRANTED:
                self._started(transition.offset, Lease(transition.about[0], transition.attempt))
            elif transition.kind == ENDED:
                self.end(transition.offset)
            elif transition.kind == RELEASED and self._is_of(transition.offset, incarnation):
                self.release(transition.offset)
            else:
                self._apply_to_lane(transition)

    def checkpoint(self) -> bytes:
        """The value of a journal record that holds the whole state."""
        self.tidy()
        state = {
            "progress": self.progress.as_json(),
            "leases": [[offset, *lease] for offset, lease in self.leases.items()],
            "attempts": list(self.attempts.items()),
            "holds": [[*lane, *run] for lane, run in self.holds.items()],
            "parked": [[*lane, offsets] for lane, offsets in self._parked_by_lane().items()],
            "remembered": [[name, *memory] for name, memory in self.remembered.items()],
        }
        return json.dumps({"queue": self.queue, "checkpoint": state}, separators=(",", ":")).encode()

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
        self.tidy()

    def tidy(self) -> None:
        """Forgets leases and attempts of tasks whose end has no transition: the record was purged, or never seen."""
        for offset in [each for each in self.attempts if self.has_ended(each)]:
            self.end(offset)

    def _started(self, offset: int, lease: Lease) -> None:
        # A start of an older attempt than the last one comes late, from a worker that has lost the task: it changes nothing.
        if lease.attempt >= self.attempts.get(offset, 0) and not self.has_ended(offset):
            self.attempts[offset] = lease.attempt
            self.leases[offset] = lease

    def _apply_to_lane(self, transition: Transition) -> None:
        with suppress(ValueError):  # a later version has written it
            if transition.kind == HELD:
                kind, name, task_id, retries = transition.about
                self.hold(_lane(kind, name), _run(task_id, retries))
            elif transition.kind == FREED:
                kind, name, *run = transition.about
                self.free(_lane(kind, name), _run(*run) if len(run) == 2 else None)
            elif transition.kind == PARKED:
                kind, name, *offsets = transition.about
                self.park(_lane(kind, name), [whole(offset, most=_FARTHEST) for offset in offsets])
            elif transition.kind == REMEMBERED:
                self.remember(*_memory(transition.about))

    def _parked_by_lane(self) -> dict[Lane, list[int]]:
        found: dict[Lane, list[int]] = {}
        for offset, lane in self.parked.items():
            found.setdefault(lane, []).append(offset)
        return found

    def _is_of(self, offset: int, incarnation: str) -> bool:
        lease = self.leases.get(offset)
        return lease is not None and lease.incarnation == incarnation

    def _restore(self, found: Any) -> None:
        with suppress(ValueError, KeyError):  # a later version has written it: that costs repeated runs, never a loss
            state = an_object(found)
            progress = Progress.from_json(state["progress"])
            waiting = {
                whole(offset): _lane(kind, name)
                for kind, name, offsets in map(a_list, a_list(state.get("parked", [])))
                for offset in a_list(offsets)
            }
            attempts = [(whole(offset), _attempt(number)) for offset, number in map(a_list, a_list(state["attempts"]))]
            leases = [
                (whole(offset), Lease(text(incarnation), _attempt(attempt)))
                for offset, incarnation, attempt in map(a_list, a_list(state["leases"]))
            ]
            holds = [
                (_lane(kind, name), _run(task_id, retries))
                for kind, name, task_id, retries in map(a_list, a_list(state.get("holds", [])))
            ]
            remembered = [_memory(a_list(each)) for each in a_list(state.get("remembered", []))]
            # The whole checkpoint is valid, so it is taken as a whole; else nothing of it counts.
            self.merge(progress, waiting)
            for offset, number in attempts:
                if not self.has_ended(offset):
                    self.attempts[offset] = max(number, self.attempts.get(offset, 0))
            for offset, lease in leases:
                self._started(offset, lease)
            for lane, run in holds:
                self.hold(lane, run)
            for name, memory in remembered:
                self.remember(name, memory)


def _attempt(value: Any) -> int:
    return min(whole(value), _MOST_ATTEMPTS)


def _lane(kind: Any, name: Any) -> Lane:
    return Lane(text(kind), text(name))


def _run(task_id: Any, retries: Any) -> Run:
    return Run(text(task_id), whole(retries, least=STOPPED))


def _memory(found: Sequence[Any]) -> tuple[str, Memory]:
    name, at, *task = found
    return text(name), Memory(number(at), *map(text, task[:1]))


def _object(value: bytes | None) -> Mapping[str, Any]:
    try:
        return an_object(from_json(value))
    except ValueError:
        return {}


def _transitions(found: Mapping[str, Any]) -> Iterator[tuple[Transition, str]]:
    told = found.get("t")
    for each in told if isinstance(told, list) else ():
        try:
            kind, offset, attempt, *about = a_list(each)
            # A PARKED transition names many offsets, and has -1 as its own.
            transition = Transition(
                text(kind), whole(offset, least=-1, most=_FARTHEST), _attempt(attempt), tuple(about)
            )
            if transition.kind == GRANTED:
                text(about[0])
            yield transition, text(found["incarnation"])
        except (KeyError, ValueError, IndexError):
            continue
