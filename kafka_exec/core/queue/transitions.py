"""The transitions of a partition's tasks, and the journal's records that hold them.

A journal has the same partitions as its queue. Its records are JSON: *transitions* of tasks, written by the processes that
run them, and *checkpoints*, the state of the whole fold. A task is named by its offset in the queue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kafka_exec.core.queue.lanes import STOPPED, Lane, Run
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
FARTHEST = 2**62

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
        attempt: the number of the start, from 1; of a grant, a release and an end, the number of the last start, since the
            start of a short task may not be told; 0 where it does not matter, and if there was none.
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


def is_of(value: bytes | None, incarnation: str) -> bool:
    """True if the value of a journal record is of an incarnation."""
    return value is not None and value.startswith(b'{"incarnation":"%s",' % incarnation.encode())


def attempt_of(value: Any) -> int:
    """The number of a start in a record; ValueError if it is none."""
    return min(whole(value), _MOST_ATTEMPTS)


def lane_of(kind: Any, name: Any) -> Lane:
    """The lane that a record names; ValueError if it names none."""
    return Lane(text(kind), text(name))


def run_of(task_id: Any, retries: Any) -> Run:
    """The run that a record names; ValueError if it names none."""
    return Run(text(task_id), whole(retries, least=STOPPED))


def memory_of(found: Sequence[Any]) -> tuple[str, Memory]:
    """The remembered end in a record, with its name; ValueError if it is none."""
    name, at, *task = found
    return text(name), Memory(number(at), *map(text, task[:1]))


def object_of(value: bytes | None) -> Mapping[str, Any]:
    """The JSON object in the value of a record; an empty one if it is none."""
    try:
        return an_object(from_json(value))
    except ValueError:
        return {}


def transitions_of(found: Mapping[str, Any]) -> Iterator[tuple[Transition, str]]:
    """The valid transitions in a record of the journal, each with the incarnation that has written it."""
    told = found.get("t")
    for each in told if isinstance(told, list) else ():
        try:
            kind, offset, attempt, *about = a_list(each)
            # A PARKED transition names many offsets, and has -1 as its own.
            transition = Transition(
                text(kind), whole(offset, least=-1, most=FARTHEST), attempt_of(attempt), tuple(about)
            )
            if transition.kind == GRANTED:
                text(about[0])
            yield transition, text(found["incarnation"])
        except (KeyError, ValueError, IndexError):
            continue
