"""The fold of one partition's journal: which of its tasks have ended, which are running where, and how often each was begun.

A journal has the same partitions as its queue. Its records are JSON: *transitions* of tasks, told by who runs them, and
*checkpoints*, the state of the whole fold. A task is named by its offset in the queue.
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

#: So many ends in a partition are remembered for the sake of what is sent a second time.
MOST_REMEMBERED = 10_000


#: No transition is of an offset behind this one: what follows from it can still be counted.
_FARTHEST = 2**62

#: Attempts are counted up to this number.
_MOST_ATTEMPTS = 10**9


class Transition(NamedTuple):
    """What happened to a task.

    Attributes:
        kind: ``STARTED``, ``ENDED``, ``RELEASED`` (it runs no more and has not ended), ``GRANTED`` (another incarnation is
            to begin it); or, told along with an end: ``HELD`` (its lane waits for a run), ``FREED`` (its lane waits no
            more), ``REMEMBERED`` (another in its place is to be dropped); or of some that wait in a lane: ``PARKED`` (they
            have not ended, though what was committed counts them so).
        attempt: which start it was, from 1; of a grant, which was the last; 0 where it does not matter.
        about: of a grant the incarnation; of a held lane its kind, name, and the run that it waits for; of a freed one
            kind, name, and the run that it no more waits for, or none for any; of what is remembered its name, when it
            ended, epoch seconds, and what stands for its task's name; of what is parked the lane's kind, name, and the
            offsets.
    """

    kind: str
    offset: int
    attempt: int = 0
    about: tuple[Any, ...] = ()


class Memory(NamedTuple):
    """What has ended, and is to be dropped if it comes again. ``at``: epoch seconds; ``task``: its :attr:`Ticket.kind`."""

    at: float
    task: str = ""


class Lease(NamedTuple):
    """A start without an end. ``boot``: the incarnation that runs the task; ``attempt``: which start it is, from 1."""

    boot: str
    attempt: int


def granted(offset: int, lease: Lease) -> Transition:
    """A task is another incarnation's to begin."""
    return Transition(GRANTED, offset, lease.attempt, (lease.boot,))


def held(offset: int, lane: Lane, run: Run) -> Transition:
    """A task's end with which its lane begins to wait for a run."""
    return Transition(HELD, offset, 0, (*lane, *run))


def freed(offset: int, lane: Lane, run: Run | None = None) -> Transition:
    """A lane waits no more, if it waited for a run; None: for whichever."""
    return Transition(FREED, offset, 0, (*lane, *(run or ())))


def remembered(offset: int, name: str, at: float, task: str) -> Transition:
    """What :attr:`Ticket.once` names has ended, at a time in epoch seconds; ``task``: of :class:`Memory`."""
    return Transition(REMEMBERED, offset, 0, (name, at, task))


def parked(lane: Lane, offsets: Sequence[int]) -> Transition:
    """Records of a lane that have not ended, though what is committed from now on counts them so."""
    return Transition(PARKED, -1, 0, (*lane, *offsets))


def encode(boot: str, queue: str, transitions: Iterable[Transition]) -> bytes:
    """The record of some transitions, told by an incarnation. ``queue``: see :class:`Ledger`."""
    told = {"boot": boot, "queue": queue, "t": [[*each[:3], *each.about] for each in transitions]}
    return json.dumps(told, separators=(",", ":")).encode()


@dataclass
class Ledger:
    """What is known of one partition.

    Attributes:
        queue: what tells the queue's topic from one of the same name before it, whose offsets mean other tasks: what was
            told of that does not count.
        progress: what was read, what has ended; what is parked counts as ended there.
        leases: of tasks that have not ended, by their offset.
        attempts: how often each task was begun that has not ended.
        holds: the lanes that wait for a run, and for which.
        parked: by offset, the lane of each record that has not ended, though it counts so for the commit.
        remembered: what is to be dropped if it comes again, by :attr:`Ticket.once`; the latest last.
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
        """The offset below which nobody needs the queue's records any more."""
        return min(self.progress.low, min(self.parked, default=self.progress.low))

    def has_ended(self, offset: int) -> bool:
        """Whether a task is finished."""
        return self.progress.has_ended(offset) and offset not in self.parked

    def start(self, offset: int, boot: str) -> Lease:
        """Notes that an incarnation begins a task."""
        attempt = self.attempts.get(offset, 0) + 1
        self._started(offset, Lease(boot, attempt))
        return self.leases[offset]

    def grant(self, offset: int, boot: str) -> Lease:
        """Notes that another incarnation is to begin a task: it has a lease from now on."""
        self._started(offset, Lease(boot, self.attempts.get(offset, 0)))
        return self.leases[offset]

    def end(self, offset: int) -> None:
        """Notes that a task has ended, whoever ran it; told twice it changes nothing."""
        self.progress.end(offset)
        self.parked.pop(offset, None)
        self.leases.pop(offset, None)
        self.attempts.pop(offset, None)

    def release(self, offset: int) -> None:
        """Notes that nobody runs a task any more, though it has not ended: it may be begun again."""
        self.leases.pop(offset, None)

    def hold(self, lane: Lane, run: Run) -> None:
        """Notes that a lane waits for a run."""
        self.holds[lane] = run

    def free(self, lane: Lane, run: Run | None = None) -> None:
        """Notes that a lane waits no more, if it waited for a run; None: for whichever."""
        if run is None or self.holds.get(lane) == run:
            self.holds.pop(lane, None)

    def park(self, lane: Lane, offsets: Iterable[int]) -> None:
        """Notes that what waits in a lane is not to hold the commit back."""
        for offset in offsets:
            if not self.progress.has_ended(offset):
                self.progress.end(offset)
                self.parked[offset] = lane

    def remember(self, name: str, memory: Memory) -> None:
        """Notes that something is to be dropped if it comes again."""
        self.remembered.pop(name, None)
        self.remembered[name] = memory
        if len(self.remembered) > MOST_REMEMBERED:
            del self.remembered[next(iter(self.remembered))]

    def recall(self, name: str, since: float) -> Memory | None:
        """What has ended of this name, after a time in epoch seconds: its like is to be dropped."""
        found = self.remembered.get(name)
        return found if found is not None and found.at >= since else None

    def apply(self, value: bytes | None, *, trusted: bool = False) -> bool:
        """Folds a record of the journal. False: it is none, and changes nothing.

        Args:
            trusted: it is the one that the commit names, or there is no commit any more. Of other checkpoints nobody knows
                whether their writer still owned the partition, so they do not count.
        """
        found = _object(value)
        if found.get("queue") != self.queue:
            return "queue" in found
        for transition, boot in _transitions(found):
            self.fold([transition], boot)
        if trusted:
            self._restore(found.get("checkpoint"))
        return True

    def fold(self, transitions: Iterable[Transition], boot: str) -> None:
        """Folds what an incarnation has told."""
        for transition in transitions:
            if transition.kind == STARTED:
                self._started(transition.offset, Lease(boot, transition.attempt))
            elif transition.kind == GRANTED:
                self._started(transition.offset, Lease(transition.about[0], transition.attempt))
            elif transition.kind == ENDED:
                self.end(transition.offset)
            elif transition.kind == RELEASED and self._is_of(transition.offset, boot):
                self.release(transition.offset)
            else:
                self._apply_to_lane(transition)

    def checkpoint(self) -> bytes:
        """The record of the whole fold."""
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
        """Adds what is known from elsewhere: an end is an end, whoever saw it."""
        for offset in [each for each in self.parked if progress.has_ended(each) and each not in parked]:
            del self.parked[offset]
        new = {offset: lane for offset, lane in parked.items() if not self.progress.has_ended(offset)}
        self.progress.merge(progress)
        self.parked.update(new)
        self.tidy()

    def take_commit(self, progress: Progress) -> None:
        """Adds what was committed, which does not tell what is parked: all that was told before it must be folded."""
        self.progress.merge(progress)
        self.tidy()

    def tidy(self) -> None:
        """Forgets the leases and attempts of what has ended without being told: its record was purged, or never seen."""
        for offset in [each for each in self.attempts if self.has_ended(each)]:
            self.end(offset)

    def _started(self, offset: int, lease: Lease) -> None:
        # A start of an older attempt than the last is told late by somebody who lost the task: it changes nothing.
        if lease.attempt >= self.attempts.get(offset, 0) and not self.has_ended(offset):
            self.attempts[offset] = lease.attempt
            self.leases[offset] = lease

    def _apply_to_lane(self, transition: Transition) -> None:
        with suppress(ValueError):  # of a later version
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

    def _is_of(self, offset: int, boot: str) -> bool:
        lease = self.leases.get(offset)
        return lease is not None and lease.boot == boot

    def _restore(self, found: Any) -> None:
        with suppress(ValueError, KeyError):  # of a later version: it costs repeated runs, never a loss
            state = an_object(found)
            progress = Progress.from_json(state["progress"])
            waiting = {
                whole(offset): _lane(kind, name)
                for kind, name, offsets in map(a_list, a_list(state.get("parked", [])))
                for offset in a_list(offsets)
            }
            attempts = [(whole(offset), _attempt(number)) for offset, number in map(a_list, a_list(state["attempts"]))]
            leases = [
                (whole(offset), Lease(text(boot), _attempt(attempt)))
                for offset, boot, attempt in map(a_list, a_list(state["leases"]))
            ]
            holds = [
                (_lane(kind, name), _run(task_id, retries))
                for kind, name, task_id, retries in map(a_list, a_list(state.get("holds", [])))
            ]
            remembered = [_memory(a_list(each)) for each in a_list(state.get("remembered", []))]
            # All of it was read: it is taken as a whole, or not at all.
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
            # What is parked is of many offsets: it has none of its own.
            transition = Transition(
                text(kind), whole(offset, least=-1, most=_FARTHEST), _attempt(attempt), tuple(about)
            )
            if transition.kind == GRANTED:
                text(about[0])
            yield transition, text(found["boot"])
        except (KeyError, ValueError, IndexError):
            continue
