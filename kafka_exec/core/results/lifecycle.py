"""The states of a task: which one may follow which, their names in Celery, and the keys of their records.

The topic of state records is compacted: the last record of each key stays. A process that was paused may write at any time,
so a stronger state never shares a key with a weaker one. The state of a task is the strongest of the last records of its
keys. So all readers see the same state, before and after a compaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import TypeVar

T = TypeVar("T")


class State(str, Enum):
    """The state of a task."""

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

# The start of a run is perhaps not written (``task_track_started``), so a state that ends or interrupts a run may follow any
# state in which a run may begin.
_OPEN = frozenset(State) - {State.SCHEDULED}

#: The states that may follow each state; None: no state of the task was written yet.
TRANSITIONS: Mapping[State | None, frozenset[State]] = {
    None: frozenset(State),
    State.SCHEDULED: _OPEN,
    State.WAITING: _OPEN,
    State.DELAYED: _OPEN,
    State.GROUP: _OPEN,
    State.WRONG_NODE: _OPEN,
    State.RUNNING: _OPEN,
    # A suspended task is resumed, which is always written, or it is given up.
    State.SUSPENDED: frozenset(
        {State.WAITING, State.GROUP, State.WRONG_NODE, State.RUNNING, State.FAILED, State.REVOKED}
    ),
    # A run that was taken for lost may still end.
    State.FAILED: frozenset({State.DONE}),
    State.REVOKED: frozenset({State.DONE}),
    State.DONE: frozenset(),
}


def may_follow(new: State, current: State | None) -> bool:
    """True if a task may come from ``current`` to ``new``; ``current`` is None if no state of the task was written yet."""
    return new in TRANSITIONS[current]


def previous(*, started: bool, retried: bool, continued: bool = False) -> State:
    """The state before a run's end.

    Args:
        started: the run's start was written.
        retried: the run is not the first one.
        continued: the run continues a suspended task.
    """
    if started:
        return State.RUNNING
    if continued:
        return State.SUSPENDED
    return State.DELAYED if retried else State.SCHEDULED


# Celery's names

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
    """Celery's name of a state. ``retrying``: a delayed task waits for a retry, not for its first run."""
    if state is State.DELAYED and retrying:
        return "RETRY"
    return _TO_CELERY.get(state, "PENDING")


def of_celery(status: str) -> State:
    """The state with this name in Celery; an application's own name is one of a running task."""
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
    """True if a record of this strength is final, so that a copy of it can never be outdated.

    FAILED and REVOKED are not final: DONE may follow.
    """
    return rank is Rank.DONE


def record_key(task_id: str, state: State) -> str:
    """The key of a task's record with this state; for DONE the id itself.

    Only if the id ends like the key of another state, the key for DONE has a suffix too, so that no two tasks share a key.
    """
    return _key(task_id, rank_of(state))


def record_keys(task_id: str) -> tuple[str, ...]:
    """All keys of a task; a process that deletes the task writes a tombstone to each of them."""
    return tuple(_key(task_id, rank) for rank in Rank)


def _key(task_id: str, rank: Rank) -> str:
    if rank is Rank.DONE and not task_id.endswith(_SUFFIXES):
        return task_id
    return task_id + _SUFFIX[rank]


def split_key(key: str) -> tuple[str, Rank]:
    """The task id and the strength in a key: the inverse of :func:`record_key`."""
    if key.endswith(_SUFFIXES):
        task_id, slash, name = key.rpartition("/")
        return task_id, _RANK[slash + name]
    return key, Rank.DONE


def task_id_of(key: str) -> str:
    """The task id in a key."""
    return split_key(key)[0]


def strongest(last: Mapping[Rank, T]) -> T | None:
    """The record that holds a task's state, of the last records of its keys without tombstones; None if there are none."""
    return last[max(last)] if last else None
