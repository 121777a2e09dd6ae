"""The states of a task: which may follow which, what Celery calls them, and under which keys they are written.

The topic of the state records is compacted: of each key the last record stays. A process that was paused may write at any
time, so a stronger state never shares a key with a weaker one: what a task comes to is the strongest of the last records
of its keys, and every reader sees the same, before and after a compaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import TypeVar

T = TypeVar("T")


class State(str, Enum):
    """Where a task is."""

    SCHEDULED = "SCHEDULED"
    WAITING = "WAITING"
    DELAYED = "DELAYED"
    GROUP = "GROUP"
    WRONG_NODE = "WRONG_NODE"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    DONE = "DONE"
    FAILED = "FAILED"
    REVOKED = "REVOKED"


class Rank(IntEnum):
    """The strength of a state; each has a key of its own."""

    PROGRESS = 0
    STOPPED = 1
    DONE = 2


TERMINAL = frozenset({State.DONE, State.FAILED, State.REVOKED})

# A start need not have been written (``task_track_started``): what ends or interrupts a run may follow where one may begin.
_OPEN = frozenset(State) - {State.SCHEDULED}

#: What may follow each state; None: a task of which nothing was written.
TRANSITIONS: Mapping[State | None, frozenset[State]] = {
    None: frozenset(State),
    State.SCHEDULED: _OPEN,
    State.WAITING: _OPEN,
    State.DELAYED: _OPEN,
    State.GROUP: _OPEN,
    State.WRONG_NODE: _OPEN,
    State.RUNNING: _OPEN,
    # It is resumed, and that is always written, or given up.
    State.SUSPENDED: frozenset(
        {State.WAITING, State.GROUP, State.WRONG_NODE, State.RUNNING, State.FAILED, State.REVOKED}
    ),
    # A run that was given up for lost may come to its end.
    State.FAILED: frozenset({State.DONE}),
    State.REVOKED: frozenset({State.DONE}),
    State.DONE: frozenset(),
}


def may_follow(new: State, current: State | None) -> bool:
    """Whether a task may come from one state to another; None: nothing was written of it."""
    return new in TRANSITIONS[current]


def previous(*, started: bool, retried: bool) -> State:
    """What was told of a task before. ``started``: the start of this run; ``retried``: the run is not its first."""
    if started:
        return State.RUNNING
    return State.DELAYED if retried else State.SCHEDULED


# Celery's words

_TO_CELERY = {
    State.DONE: "SUCCESS",
    State.FAILED: "FAILURE",
    State.REVOKED: "REVOKED",
    State.RUNNING: "STARTED",
    State.SUSPENDED: "SUSPENDED",
}
_OF_CELERY = {
    "PENDING": State.WAITING,
    "RECEIVED": State.WAITING,
    "STARTED": State.RUNNING,
    "RETRY": State.DELAYED,
    "SUSPENDED": State.SUSPENDED,
    "SUCCESS": State.DONE,
    "FAILURE": State.FAILED,
    "IGNORED": State.FAILED,
    "REJECTED": State.FAILED,
    "REVOKED": State.REVOKED,
}


def to_celery(state: State, *, retrying: bool = False) -> str:
    """Celery's word for a state. ``retrying``: a delayed task waits for its next attempt, not for its first."""
    if state is State.DELAYED and retrying:
        return "RETRY"
    return _TO_CELERY.get(state, "PENDING")


def of_celery(status: str) -> State:
    """The state that Celery's word stands for; an application's own word is one of a running task."""
    return _OF_CELERY.get(status, State.RUNNING)


# Keys

_SUFFIX = {Rank.PROGRESS: "/progress", Rank.STOPPED: "/stopped", Rank.DONE: "/done"}
_RANK = {suffix: rank for rank, suffix in _SUFFIX.items()}
_SUFFIXES = tuple(_RANK)


def rank_of(state: State) -> Rank:
    """The strength of a state."""
    if state is State.DONE:
        return Rank.DONE
    return Rank.STOPPED if state in TERMINAL else Rank.PROGRESS


def is_settled(rank: Rank) -> bool:
    """Whether a record of this strength tells its task's state for good, so that a copy of it is as good as itself.

    FAILED and REVOKED do not: DONE may follow.
    """
    return rank is Rank.DONE


def record_key(task_id: str, state: State) -> str:
    """The key under which a state of a task is written: for DONE the id itself.

    Only where an id ends as one of the keys does, DONE has a suffix too, so that no two tasks share a key.
    """
    return _key(task_id, rank_of(state))


def record_keys(task_id: str) -> tuple[str, ...]:
    """All keys of a task; who forgets it writes a tombstone to each."""
    return tuple(_key(task_id, rank) for rank in Rank)


def _key(task_id: str, rank: Rank) -> str:
    if rank is Rank.DONE and not task_id.endswith(_SUFFIXES):
        return task_id
    return task_id + _SUFFIX[rank]


def split_key(key: str) -> tuple[str, Rank]:
    """The task id and the strength that a key stands for: the inverse of :func:`record_key`."""
    if key.endswith(_SUFFIXES):
        task_id, slash, name = key.rpartition("/")
        return task_id, _RANK[slash + name]
    return key, Rank.DONE


def task_id_of(key: str) -> str:
    """The task id that a key belongs to."""
    return split_key(key)[0]


def strongest(last: Mapping[Rank, T]) -> T | None:
    """What a task has come to: the fold of the last records of its keys, tombstones left out; None if there are none."""
    return last[max(last)] if last else None
