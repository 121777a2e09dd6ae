"""The table of suspensions: what each event does to a correlation id, by which callbacks name a suspended task."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple


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
    AGAIN = "AGAIN: the same suspension is told again"
    OTHER = "OTHER: a second task is suspended while the first one waits"
    CALLBACK = "CALLBACK: a callback comes, and further ones are expected"
    LAST = "LAST: the last callback comes"
    COPY = "COPY: a callback with the id of an earlier one comes"
    STRANGER = "STRANGER: a callback comes whose id is not among the expected ones"
    DEADLINE = "DEADLINE: the suspension's deadline is over"
    FORGET = "FORGET: the time for which it is remembered is over"


class WaitAct(Enum):
    """An action of the reducer."""

    WAIT = "WAIT: remember the suspension, and take the early callbacks"
    KEEP = "KEEP: remember the callback"
    CONTINUE = "CONTINUE: continue the task with the callbacks"
    TIME_OUT = "TIME_OUT: continue the task without them"
    REFUSE = "REFUSE: continue the second task with an error"
    BURY = "BURY: make dead letters of the callbacks"
    REMOVE = "REMOVE: forget the correlation id"


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


def _stay(phase: WaitPhase) -> dict[tuple[WaitPhase, WaitEvent], WaitMove]:
    """The cells of events that change nothing, or cannot happen, in a phase."""
    return {(phase, event): WaitMove(phase) for event in WaitEvent}


#: What each event does in each phase.
TABLE: Mapping[tuple[WaitPhase, WaitEvent], WaitMove] = {
    **_stay(_P.UNKNOWN),
    (_P.UNKNOWN, _E.SUSPEND): WaitMove(_P.WAITING, (WaitAct.WAIT,)),
    (_P.UNKNOWN, _E.CALLBACK): WaitMove(_P.EARLY, (WaitAct.KEEP,), WaitOutcome.KEPT),
    **_stay(_P.EARLY),
    (_P.EARLY, _E.SUSPEND): WaitMove(_P.WAITING, (WaitAct.WAIT,)),
    (_P.EARLY, _E.CALLBACK): WaitMove(_P.EARLY, (WaitAct.KEEP,), WaitOutcome.KEPT),
    (_P.EARLY, _E.COPY): WaitMove(_P.EARLY, (), WaitOutcome.ALREADY),
    (_P.EARLY, _E.FORGET): WaitMove(_P.UNKNOWN, (WaitAct.BURY, WaitAct.REMOVE)),
    **_stay(_P.WAITING),
    (_P.WAITING, _E.OTHER): WaitMove(_P.WAITING, (WaitAct.REFUSE,)),
    (_P.WAITING, _E.CALLBACK): WaitMove(_P.WAITING, (WaitAct.KEEP,), WaitOutcome.COUNTED),
    (_P.WAITING, _E.LAST): WaitMove(_P.CONTINUED, (WaitAct.KEEP, WaitAct.CONTINUE), WaitOutcome.CONTINUED),
    (_P.WAITING, _E.COPY): WaitMove(_P.WAITING, (), WaitOutcome.ALREADY),
    (_P.WAITING, _E.STRANGER): WaitMove(_P.WAITING, (), WaitOutcome.UNEXPECTED),
    (_P.WAITING, _E.DEADLINE): WaitMove(_P.OVER, (WaitAct.TIME_OUT,)),
    **_stay(_P.CONTINUED),
    (_P.CONTINUED, _E.SUSPEND): WaitMove(_P.WAITING, (WaitAct.WAIT,)),
    (_P.CONTINUED, _E.COPY): WaitMove(_P.CONTINUED, (), WaitOutcome.ALREADY),
    (_P.CONTINUED, _E.FORGET): WaitMove(_P.UNKNOWN, (WaitAct.REMOVE,)),
    **_stay(_P.OVER),
    (_P.OVER, _E.SUSPEND): WaitMove(_P.WAITING, (WaitAct.WAIT,)),
    (_P.OVER, _E.COPY): WaitMove(_P.OVER, (), WaitOutcome.TOO_LATE),
    (_P.OVER, _E.FORGET): WaitMove(_P.UNKNOWN, (WaitAct.REMOVE,)),
}
