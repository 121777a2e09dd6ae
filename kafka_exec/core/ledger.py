"""The fold of one partition's journal: which of its tasks have ended, which are running where, and how often each was begun.

A journal has the same partitions as its queue. Its records are JSON: *transitions* of tasks, told by who runs them, and
*checkpoints*, the state of the whole fold. A task is named by its offset in the queue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka_exec.core.journal import Progress

STARTED = "s"
ENDED = "e"
RELEASED = "r"


class Transition(NamedTuple):
    """What happened to a task. ``attempt``: which start it was, from 1; 0 where it does not matter."""

    kind: str
    offset: int
    attempt: int = 0


class Lease(NamedTuple):
    """A start without an end. ``boot``: the incarnation that runs the task; ``attempt``: which start it is, from 1."""

    boot: str
    attempt: int


def encode(boot: str, queue: str, transitions: Iterable[Transition]) -> bytes:
    """The record of some transitions, told by an incarnation. ``queue``: see :class:`Ledger`."""
    told = {"boot": boot, "queue": queue, "t": [list(each) for each in transitions]}
    return json.dumps(told, separators=(",", ":")).encode()


@dataclass
class Ledger:
    """What is known of one partition.

    Attributes:
        queue: what tells the queue's topic from one of the same name before it, whose offsets mean other tasks: what was
            told of that does not count.
        progress: what was read, what has ended.
        leases: of tasks that have not ended, by their offset.
        attempts: how often each task was begun that has not ended.
    """

    queue: str
    progress: Progress
    leases: dict[int, Lease] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)

    def start(self, offset: int, boot: str) -> Lease:
        """Notes that an incarnation begins a task."""
        attempt = self.attempts.get(offset, 0) + 1
        self._started(offset, Lease(boot, attempt))
        return self.leases[offset]

    def end(self, offset: int) -> None:
        """Notes that a task has ended, whoever ran it; told twice it changes nothing."""
        self.progress.end(offset)
        self.leases.pop(offset, None)
        self.attempts.pop(offset, None)

    def release(self, offset: int) -> None:
        """Notes that nobody runs a task any more, though it has not ended: it may be begun again."""
        self.leases.pop(offset, None)

    def apply(self, value: bytes | None, *, first: bool = False) -> None:
        """Folds a record of the journal.

        Args:
            first: it is the one that the commit names. Of other checkpoints nobody knows whether their writer still
                owned the partition, so they do not count.
        """
        found = _object(value)
        if found.get("queue") != self.queue:
            return
        for transition, boot in _transitions(found):
            if transition.kind == STARTED:
                self._started(transition.offset, Lease(boot, transition.attempt))
            elif transition.kind == ENDED:
                self.end(transition.offset)
            elif transition.kind == RELEASED and self._is_of(transition.offset, boot):
                self.release(transition.offset)
        if first:
            self._restore(found.get("checkpoint"))

    def checkpoint(self) -> bytes:
        """The record of the whole fold."""
        self.tidy()
        state = {
            "progress": self.progress.as_json(),
            "leases": [[offset, *lease] for offset, lease in self.leases.items()],
            "attempts": list(self.attempts.items()),
        }
        return json.dumps({"queue": self.queue, "checkpoint": state}, separators=(",", ":")).encode()

    def merge(self, progress: Progress) -> None:
        """Adds what is known to have ended from elsewhere."""
        self.progress.merge(progress)
        self.tidy()

    def tidy(self) -> None:
        """Forgets the leases and attempts of what has ended without being told: its record was purged, or never seen."""
        for offset in [each for each in self.attempts if self.progress.has_ended(each)]:
            self.end(offset)

    def _started(self, offset: int, lease: Lease) -> None:
        # A start of an older attempt than the last is told late by somebody who lost the task: it changes nothing.
        if lease.attempt >= self.attempts.get(offset, 0) and not self.progress.has_ended(offset):
            self.attempts[offset] = lease.attempt
            self.leases[offset] = lease

    def _is_of(self, offset: int, boot: str) -> bool:
        lease = self.leases.get(offset)
        return lease is not None and lease.boot == boot

    def _restore(self, found: Any) -> None:
        try:
            if isinstance(found, dict):
                self.merge(Progress.from_json(found["progress"]))
                for offset, number in found["attempts"]:
                    if not self.progress.has_ended(offset):
                        self.attempts[int(offset)] = int(number)
                for offset, boot, attempt in found["leases"]:
                    self._started(int(offset), Lease(str(boot), int(attempt)))
        except (KeyError, TypeError, ValueError):
            return  # of a later version: it costs repeated runs, never a loss


def _object(value: bytes | None) -> Mapping[str, Any]:
    try:
        found = json.loads(value or b"null")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _transitions(found: Mapping[str, Any]) -> Iterator[tuple[Transition, str]]:
    told = found.get("t")
    for each in told if isinstance(told, list) else ():
        try:
            kind, offset, attempt = each
            yield Transition(str(kind), int(offset), int(attempt)), str(found["boot"])
        except (KeyError, TypeError, ValueError):
            continue
