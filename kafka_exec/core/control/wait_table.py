"""The table of suspensions: what each event does to a correlation id, by which callbacks name a suspended task."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from kafka_exec.core.record.tables import markdown


class WaitPhase(Enum):
    """The phase of a correlation id."""

    UNKNOWN = "UNKNOWN: nothing is known of it"
    EARLY = "EARLY: callbacks came before their suspension"
    WAITING = "WAITING: a task is suspended"
    CONTINUED = "CONTINUED: the task was continued after its last callback"
    OVER = "OVER: the task was continued at its deadline"


class WaitEvent(Enum):
    """An event of a correlation id."""

    SUSPEND = "SUSPEND: a task is suspended"
    AGAIN = "AGAIN: the same suspension, a refused one, or an earlier one of such a task is told again"
    OTHER = "OTHER: a second task is suspended while the first one waits"
    CALLBACK = "CALLBACK: a callback comes, and further ones are expected"
    LAST = "LAST: the last callback comes"
    COPY = "COPY: a callback comes that counts no more: one with its id has come before, or the wait is over"
    STRANGER = "STRANGER: a callback comes whose id is not among the expected ones"
    TOO_LARGE = "TOO_LARGE: Kafka refuses to keep the suspension, or a callback"
    REVOKE = "REVOKE: the task is revoked"
    DEADLINE = "DEADLINE: the suspension's deadline is over"
    FORGET = "FORGET: the time for which it is remembered is over"


class WaitAct(Enum):
    """An action of the reducer."""

    WAIT = "remember the suspension, take the early callbacks, make dead letters of the rest, look for watched ends"
    KEEP = "remember the callback"
    TELL = "tell which callbacks have come, if the task says so"
    CONTINUE = "continue the task with the callbacks"
    TIME_OUT = "continue the task at its deadline"
    FAIL = "continue the task with an error"
    REFUSE = "continue the second task with an error, remember that"
    DROP = "forget the callback, make a dead letter of it"
    BURY = "make dead letters of the callbacks"


class WaitOutcome(str, Enum):
    """The outcome of a callback, for its caller."""

    CONTINUED = "continued"
    COUNTED = "counted"
    ALREADY = "already"
    KEPT = "kept"
    UNEXPECTED = "unexpected"
    TOO_LATE = "too late"


class WaitMove(NamedTuple):
    """A cell of the table. ``outcome``: None if the event is no callback."""

    phase: WaitPhase
    acts: tuple[WaitAct, ...] = ()
    outcome: WaitOutcome | None = None


_P, _E = WaitPhase, WaitEvent
_WAITS = WaitMove(_P.WAITING, (WaitAct.WAIT,))
_KEPT = WaitMove(_P.EARLY, (WaitAct.KEEP,), WaitOutcome.KEPT)

#: The cells of events that happen. In a phase that is left, the callbacks are forgotten.
_ROWS: Mapping[WaitPhase, Mapping[WaitEvent, WaitMove]] = {
    _P.UNKNOWN: {
        _E.SUSPEND: _WAITS,
        _E.CALLBACK: _KEPT,
    },
    _P.EARLY: {
        _E.SUSPEND: _WAITS,
        _E.CALLBACK: _KEPT,
        _E.COPY: WaitMove(_P.EARLY, (), WaitOutcome.ALREADY),
        _E.TOO_LARGE: WaitMove(_P.EARLY, (WaitAct.DROP,)),
        _E.FORGET: WaitMove(_P.UNKNOWN, (WaitAct.BURY,)),
    },
    _P.WAITING: {
        _E.AGAIN: WaitMove(_P.WAITING, (WaitAct.TELL,)),
        _E.OTHER: WaitMove(_P.WAITING, (WaitAct.REFUSE,)),
        _E.CALLBACK: WaitMove(_P.WAITING, (WaitAct.KEEP, WaitAct.TELL), WaitOutcome.COUNTED),
        _E.LAST: WaitMove(_P.CONTINUED, (WaitAct.CONTINUE,), WaitOutcome.CONTINUED),
        _E.COPY: WaitMove(_P.WAITING, (), WaitOutcome.ALREADY),
        _E.STRANGER: WaitMove(_P.WAITING, (), WaitOutcome.UNEXPECTED),
        _E.TOO_LARGE: WaitMove(_P.CONTINUED, (WaitAct.FAIL,)),
        _E.REVOKE: WaitMove(_P.CONTINUED, (WaitAct.FAIL,)),
        _E.DEADLINE: WaitMove(_P.OVER, (WaitAct.TIME_OUT,)),
    },
    _P.CONTINUED: {
        _E.SUSPEND: _WAITS,
        _E.AGAIN: WaitMove(_P.CONTINUED),
        _E.COPY: WaitMove(_P.CONTINUED, (), WaitOutcome.ALREADY),
        _E.FORGET: WaitMove(_P.UNKNOWN),
    },
    _P.OVER: {
        _E.SUSPEND: _WAITS,
        _E.AGAIN: WaitMove(_P.OVER),
        _E.COPY: WaitMove(_P.OVER, (), WaitOutcome.TOO_LATE),
        _E.FORGET: WaitMove(_P.UNKNOWN),
    },
}

#: What each event does in each phase. An event that is not here cannot happen in that phase.
TABLE: Mapping[tuple[WaitPhase, WaitEvent], WaitMove] = {
    (phase, event): move for phase, row in _ROWS.items() for event, move in row.items()
}


def document() -> str:
    """The whole table in Markdown: a section for each phase, in which the events that cannot happen are one line."""
    return markdown(
        "A correlation id, phase by phase",
        "Printed from the table in `core/control/wait_table.py`; a test compares them.",
        ("event", "next phase", "what is done", "answer to the caller"),
        _ROWS,
        "Cannot happen",
    )
