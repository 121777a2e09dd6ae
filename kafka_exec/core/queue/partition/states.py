"""The state of one record of a partition, as one process knows it: all states and all events in one table.

A cell holds the next state and the actions to do. :class:`~kafka_exec.core.queue.partition.Partition` finds out which event
has happened, and does the actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from kafka_exec.core.record.tables import markdown


class RecordState(Enum):
    """The state of a record. Only :attr:`READY` and :attr:`GRANTED` ones may begin."""

    UNREAD = "UNREAD"
    WAITING = "WAITING"
    READY = "READY"
    BEGINNING = "BEGINNING"
    RUNNING = "RUNNING"
    ELSEWHERE = "ELSEWHERE"
    GRANTED = "GRANTED"
    ENDED = "ENDED"

    # Members are looked up for each task: that of Enum hashes their names, in Python.
    __hash__ = object.__hash__


class RecordEvent(Enum):
    """An event of a record. The first five come when the record is read, and when its lane goes on."""

    FIRST = "FIRST: it is read, or its turn comes, and nothing keeps it from running"
    BEHIND = "BEHIND: it is read, and others of its lane come first"
    COPY = "COPY: it is read, or its turn comes, and another record of its task has ended"
    TAKEN = "TAKEN: it is read, or its turn comes, and another incarnation has its lease"
    ABSENT = "ABSENT: its turn comes, and it is not in memory"
    BEGIN = "BEGIN: its run begins here"
    CONFIRM = "CONFIRM: its run is about to start, and what must be durable is"
    LATE = "LATE: its run would begin here too long after the grant"
    END = "END: its run has ended here"
    PUT_BACK = "PUT_BACK: the owner's own run is broken off"
    GIVE_BACK = "GIVE_BACK: a run for another owner is broken off"
    YIELD = "YIELD: another incarnation has begun it before this one"
    GIVE = "GIVE: the owner gives it to another incarnation"
    ACCEPT = "ACCEPT: its owner gives it to this process"
    LEASE = "LEASE: another incarnation tells that it has it"
    ENDED_ELSEWHERE = "ENDED_ELSEWHERE: another incarnation tells its end"
    CLOSE = "CLOSE: the owner hands the partition over"
    LOSE = "LOSE: the partition is lost"
    OWN = "OWN: the partition comes to this process"

    __hash__ = object.__hash__


class Action(Enum):
    """An action for a record."""

    RESERVE = "reserve"
    HAND_OUT = "hand out"
    KEEP = "keep in memory"
    FETCH = "read again"
    TELL_STARTED = "tell STARTED"
    TELL_ENDED = "tell ENDED"
    TELL_RELEASED = "tell RELEASED"
    TELL_GRANTED = "tell GRANTED"
    UNRESERVE = "tell RELEASED if reserved"
    NOTE_RIVAL = "note the rival"
    LEAVE = "leave the lane"


class Cell(NamedTuple):
    """A cell of the table: the next state, and the actions."""

    state: RecordState
    actions: tuple[Action, ...] = ()


_S, _E = RecordState, RecordEvent
_READY = Cell(_S.READY, (Action.RESERVE, Action.HAND_OUT))
_WAITS = Cell(_S.WAITING, (Action.KEEP,))
_LACKING = Cell(_S.WAITING, (Action.FETCH,))
_TAKEN = Cell(_S.ELSEWHERE, (Action.KEEP,))
_BEGINS = Cell(_S.BEGINNING, (Action.TELL_STARTED,))
_BACK = Cell(_S.READY, (Action.TELL_RELEASED,))
_OVER = Cell(_S.ENDED, (Action.TELL_ENDED, Action.LEAVE))
_OVER_ELSEWHERE = Cell(_S.ENDED, (Action.LEAVE,))
_GIVEN_BACK = Cell(_S.UNREAD, (Action.TELL_RELEASED, Action.LEAVE))
_GONE = Cell(_S.UNREAD)

#: The cells that change the state or have actions. :data:`IGNORED` names all others.
_ROWS: Mapping[RecordState, Mapping[RecordEvent, Cell]] = {
    # This process does not know the record, or not any more.
    _S.UNREAD: {
        _E.FIRST: _READY,
        _E.BEHIND: _WAITS,
        _E.COPY: _OVER,
        _E.TAKEN: _TAKEN,
        _E.ACCEPT: Cell(_S.GRANTED, (Action.HAND_OUT,)),
        # It expired, or was buried, after the partition was lost.
        _E.END: _OVER,
        _E.ENDED_ELSEWHERE: _OVER_ELSEWHERE,
    },
    # It was read, or a former owner has parked it, and other records of its lane come first.
    _S.WAITING: {
        _E.FIRST: _READY,
        _E.COPY: _OVER,
        _E.TAKEN: _TAKEN,
        _E.ABSENT: _LACKING,
        _E.END: _OVER,
        _E.LEASE: Cell(_S.ELSEWHERE),
        _E.ENDED_ELSEWHERE: _OVER_ELSEWHERE,
        _E.CLOSE: _GONE,
        _E.LOSE: _GONE,
    },
    # It is handed out, and has not begun.
    _S.READY: {
        _E.BEGIN: _BEGINS,
        _E.END: _OVER,
        _E.GIVE: Cell(_S.ELSEWHERE, (Action.TELL_GRANTED, Action.KEEP)),
        # A former owner that was stopped tells late that it has begun it. The record is read again if its lease is over.
        _E.LEASE: Cell(_S.ELSEWHERE),
        _E.ENDED_ELSEWHERE: _OVER_ELSEWHERE,
        _E.CLOSE: Cell(_S.UNREAD, (Action.UNRESERVE,)),
        _E.LOSE: _GONE,
    },
    # Its begin is told. It does not run yet, so it can still be left to another incarnation.
    _S.BEGINNING: {
        _E.BEGIN: _BEGINS,
        _E.CONFIRM: Cell(_S.RUNNING),
        _E.END: _OVER,
        _E.PUT_BACK: _BACK,
        _E.GIVE_BACK: _GIVEN_BACK,
        _E.YIELD: Cell(_S.ELSEWHERE),
        _E.LEASE: Cell(_S.BEGINNING, (Action.NOTE_RIVAL,)),
        _E.ENDED_ELSEWHERE: Cell(_S.BEGINNING, (Action.NOTE_RIVAL,)),
        _E.CLOSE: Cell(_S.UNREAD, (Action.TELL_RELEASED,)),
        _E.LOSE: Cell(_S.UNREAD, (Action.TELL_RELEASED,)),
    },
    # It runs in this process, whoever owns the partition. Nothing but its own end, or its break, changes that.
    _S.RUNNING: {
        _E.END: _OVER,
        _E.PUT_BACK: _BACK,
        _E.GIVE_BACK: _GIVEN_BACK,
    },
    # Another incarnation runs it, or is to.
    _S.ELSEWHERE: {
        _E.FIRST: _READY,
        _E.BEHIND: Cell(_S.WAITING),
        _E.COPY: _OVER,
        _E.ABSENT: _LACKING,
        _E.END: _OVER,
        _E.ENDED_ELSEWHERE: _OVER_ELSEWHERE,
        _E.CLOSE: _GONE,
        _E.LOSE: _GONE,
    },
    # Another process owns the partition and has given the record to this one, where it has not begun.
    _S.GRANTED: {
        _E.BEGIN: _BEGINS,
        _E.LATE: _GIVEN_BACK,
        _E.END: _OVER,
        _E.GIVE_BACK: _GIVEN_BACK,
        _E.LEASE: Cell(_S.UNREAD, (Action.LEAVE,)),
        _E.ENDED_ELSEWHERE: _OVER_ELSEWHERE,
        _E.OWN: _GONE,
    },
    _S.ENDED: {},
}

#: The cells in which nothing happens.
IGNORED = frozenset((state, event) for state in RecordState for event in RecordEvent if event not in _ROWS[state])

#: All cells.
TABLE: Mapping[tuple[RecordState, RecordEvent], Cell] = {
    (state, event): _ROWS[state].get(event, Cell(state)) for state in RecordState for event in RecordEvent
}


def document() -> str:
    """The whole table in Markdown: a section for each state, in which the events that change nothing are one line."""
    return markdown(
        "A record of a queue's partition, state by state",
        "Printed from the table in `core/queue/partition/states.py`; a test compares them.",
        ("event", "next state", "what is done"),
        _ROWS,
        "Nothing happens at",
    )
