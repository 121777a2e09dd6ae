"""The claim of one periodic entry, as one node sees it: all states and all events in one table.

A cell holds the next state and the actions to do. Actions are values; other modules do them. A record of the log becomes an
event only after :class:`~kafka_exec.core.beat.claimlog.ClaimLog` has found that it counts: an outdated one never comes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from kafka_exec.core.record.tables import markdown


class ClaimState(Enum):
    """The state of an entry's claim, as a node knows it."""

    NEW = "NEW"
    INITIATING = "INITIATING"
    CLAIMING = "CLAIMING"
    CLAIMED_BY_NODE = "CLAIMED_BY_NODE"
    CLAIMED_BY_OTHER = "CLAIMED_BY_OTHER"
    HANDLING_BY_NODE = "HANDLING_BY_NODE"
    HANDLING_BY_OTHER = "HANDLING_BY_OTHER"
    UNCLAIMING = "UNCLAIMING"
    ERROR = "ERROR"


#: The states in which this node may fire.
HELD = frozenset({ClaimState.CLAIMED_BY_NODE, ClaimState.HANDLING_BY_NODE})


class Event(Enum):
    """An event of a claim. Names with the suffix ``_I`` come from within the node: timers, and its own wishes."""

    OWN_CLAIMING = "own CLAIMING wins"
    OTHER_CLAIMING = "other's CLAIMING wins"
    LATE_CLAIMING = "other's CLAIMING loses"
    OWN_CLAIMED = "own CLAIMED"
    OTHER_CLAIMED = "other's CLAIMED"
    OWN_HEARTBEAT = "own HEARTBEAT"
    OTHER_HEARTBEAT = "other's HEARTBEAT"
    OWN_HANDLING = "own HANDLING"
    OTHER_HANDLING = "other's HANDLING"
    UNCLAIMED = "UNCLAIMED"
    CONFLICT = "contradiction"
    NODEHEARTBEAT = "NODEHEARTBEAT of the holder"
    DO_INFORMATION_SEND = "DO_INFORMATION_SEND"
    INITIATING_I = "INITIATING_I: what is in the log is known"
    CLAIMING_I = "CLAIMING_I: the claim wait is over"
    FIRING_I = "FIRING_I: due, the run is its queue's"
    HANDLING_I = "HANDLING_I: due, the run is this node's"
    UNHANDLING_I = "UNHANDLING_I: the run is over"
    HEARTBEAT_I = "HEARTBEAT_I: time to repeat the claim"
    UNCLAIM_I = "UNCLAIM_I: the claim is not wanted"
    REVIVING = "REVIVING: the holder is lost, and fenced"
    FENCED = "FENCED: this incarnation is"


class Do(Enum):
    """An action that a node must do."""

    SEND_CLAIMING = "send CLAIMING"
    SEND_CLAIMED = "send CLAIMED"
    SEND_HEARTBEAT = "send HEARTBEAT"
    SEND_HANDLING = "send HANDLING"
    SEND_UNCLAIMED = "send UNCLAIMED"
    WAIT = "begin the claim wait"
    ACQUIRED = "tell: acquired"
    STOP_RUN = "stop the run"
    RELEASED = "tell: released"
    KEEP = "revive nobody"
    COUNT = "count a conflict"
    STEP_DOWN = "step down"


class Move(NamedTuple):
    """A cell of the table: the next state, and the actions."""

    state: ClaimState
    actions: tuple[Do, ...] = ()


_S, _E = ClaimState, Event
_HOLD = Move(_S.CLAIMED_BY_NODE, (Do.ACQUIRED, Do.SEND_CLAIMED))
_LET_GO = Move(_S.UNCLAIMING, (Do.SEND_UNCLAIMED,))
_FREE = Move(_S.INITIATING, (Do.WAIT,))
_OTHERS = Move(_S.CLAIMED_BY_OTHER)
_OTHERS_RUN = Move(_S.HANDLING_BY_OTHER)
_NOTHING = Move(_S.NEW)
_PUZZLED = Move(_S.ERROR, (Do.COUNT,))
_GIVE_BACK = Move(_S.ERROR, (Do.COUNT, Do.RELEASED, Do.SEND_UNCLAIMED))
_BREAK_OFF = Move(_S.ERROR, (Do.COUNT, Do.STOP_RUN, Do.RELEASED, Do.SEND_UNCLAIMED))


def _stay(state: ClaimState, *actions: Do) -> Move:
    return Move(state, actions)


#: The cells that change the state or have actions. :data:`IGNORED` names all others.
_ROWS: Mapping[ClaimState, Mapping[Event, Move]] = {
    # The node only looks on: it has not read the log yet, or does not want the entry.
    _S.NEW: {
        # These records are of a claim that the node does not want any more.
        _E.OWN_CLAIMING: _LET_GO,
        _E.OWN_CLAIMED: _LET_GO,
        _E.OWN_HEARTBEAT: _LET_GO,
        _E.OWN_HANDLING: _LET_GO,
        _E.OTHER_CLAIMING: _OTHERS,
        _E.OTHER_CLAIMED: _OTHERS,
        _E.OTHER_HEARTBEAT: _OTHERS,
        _E.OTHER_HANDLING: _OTHERS_RUN,
        _E.UNCLAIMED: _FREE,
        _E.INITIATING_I: _FREE,
    },
    # No node holds the entry; this one waits for a moment before it claims.
    _S.INITIATING: {
        _E.OWN_CLAIMING: _HOLD,
        _E.OTHER_CLAIMING: _OTHERS,
        _E.OTHER_HEARTBEAT: _OTHERS,
        _E.OTHER_CLAIMED: _PUZZLED,
        _E.OTHER_HANDLING: _PUZZLED,
        _E.OWN_CLAIMED: _PUZZLED,
        _E.OWN_HEARTBEAT: _PUZZLED,
        _E.OWN_HANDLING: _PUZZLED,
        _E.UNCLAIMED: _FREE,
        _E.INITIATING_I: _FREE,
        _E.CLAIMING_I: Move(_S.CLAIMING, (Do.SEND_CLAIMING,)),
        _E.UNCLAIM_I: _NOTHING,
    },
    # The node has sent its claim; the lowest offset wins.
    _S.CLAIMING: {
        _E.OWN_CLAIMING: _HOLD,
        _E.OTHER_CLAIMING: _OTHERS,
        _E.OTHER_CLAIMED: _PUZZLED,
        _E.OTHER_HEARTBEAT: _PUZZLED,
        _E.OTHER_HANDLING: _PUZZLED,
        _E.OWN_CLAIMED: _PUZZLED,
        _E.OWN_HEARTBEAT: _PUZZLED,
        _E.OWN_HANDLING: _PUZZLED,
        _E.UNCLAIMED: _FREE,
        _E.UNCLAIM_I: _NOTHING,
        # The claim may have been written. If so, the log will say that an earlier incarnation has won.
        _E.FENCED: _FREE,
    },
    _S.CLAIMED_BY_NODE: {
        _E.LATE_CLAIMING: _stay(_S.CLAIMED_BY_NODE, Do.SEND_CLAIMED),
        _E.DO_INFORMATION_SEND: _stay(_S.CLAIMED_BY_NODE, Do.SEND_CLAIMED),
        _E.HEARTBEAT_I: _stay(_S.CLAIMED_BY_NODE, Do.SEND_HEARTBEAT),
        _E.FIRING_I: _stay(_S.CLAIMED_BY_NODE, Do.SEND_HANDLING),
        _E.HANDLING_I: Move(_S.HANDLING_BY_NODE, (Do.SEND_HANDLING,)),
        _E.UNCLAIM_I: Move(_S.UNCLAIMING, (Do.RELEASED, Do.SEND_UNCLAIMED)),
        # Another node took this one for dead: it has fenced it, and then released the entry on its behalf.
        _E.UNCLAIMED: Move(_S.INITIATING, (Do.COUNT, Do.RELEASED, Do.STEP_DOWN, Do.WAIT)),
        _E.FENCED: Move(_S.CLAIMED_BY_OTHER, (Do.RELEASED,)),
        _E.OWN_CLAIMING: _GIVE_BACK,
        _E.OTHER_CLAIMING: _GIVE_BACK,
        _E.OTHER_CLAIMED: _GIVE_BACK,
        _E.OTHER_HEARTBEAT: _GIVE_BACK,
        _E.OTHER_HANDLING: _GIVE_BACK,
        _E.CONFLICT: _GIVE_BACK,
    },
    _S.HANDLING_BY_NODE: {
        _E.LATE_CLAIMING: _stay(_S.HANDLING_BY_NODE, Do.SEND_CLAIMED),
        _E.DO_INFORMATION_SEND: _stay(_S.HANDLING_BY_NODE, Do.SEND_CLAIMED),
        _E.HEARTBEAT_I: _stay(_S.HANDLING_BY_NODE, Do.SEND_HEARTBEAT),
        _E.UNHANDLING_I: Move(_S.CLAIMED_BY_NODE, (Do.SEND_CLAIMED,)),
        _E.UNCLAIM_I: Move(_S.UNCLAIMING, (Do.STOP_RUN, Do.RELEASED, Do.SEND_UNCLAIMED)),
        _E.UNCLAIMED: Move(_S.INITIATING, (Do.COUNT, Do.STOP_RUN, Do.RELEASED, Do.STEP_DOWN, Do.WAIT)),
        _E.FENCED: Move(_S.CLAIMED_BY_OTHER, (Do.STOP_RUN, Do.RELEASED)),
        _E.OWN_CLAIMING: _BREAK_OFF,
        _E.OTHER_CLAIMING: _BREAK_OFF,
        _E.OTHER_CLAIMED: _BREAK_OFF,
        _E.OTHER_HEARTBEAT: _BREAK_OFF,
        _E.OTHER_HANDLING: _BREAK_OFF,
        _E.CONFLICT: _BREAK_OFF,
    },
    _S.CLAIMED_BY_OTHER: {
        _E.OTHER_HANDLING: _OTHERS_RUN,
        _E.UNCLAIMED: _FREE,
        _E.NODEHEARTBEAT: _stay(_S.CLAIMED_BY_OTHER, Do.KEEP),
        _E.REVIVING: _stay(_S.CLAIMED_BY_OTHER, Do.SEND_UNCLAIMED),
        _E.OWN_CLAIMING: _PUZZLED,
        _E.OWN_CLAIMED: _PUZZLED,
        _E.OWN_HEARTBEAT: _PUZZLED,
        _E.OWN_HANDLING: _PUZZLED,
    },
    _S.HANDLING_BY_OTHER: {
        _E.OTHER_CLAIMING: _OTHERS,
        _E.OTHER_CLAIMED: _OTHERS,
        _E.UNCLAIMED: _FREE,
        _E.NODEHEARTBEAT: _stay(_S.HANDLING_BY_OTHER, Do.KEEP),
        _E.REVIVING: _stay(_S.HANDLING_BY_OTHER, Do.SEND_UNCLAIMED),
        _E.OWN_CLAIMING: _PUZZLED,
        _E.OWN_CLAIMED: _PUZZLED,
        _E.OWN_HEARTBEAT: _PUZZLED,
        _E.OWN_HANDLING: _PUZZLED,
    },
    # The state ends when the node reads its own UNCLAIMED: the order in the log counts, not the order of sending.
    _S.UNCLAIMING: {
        _E.UNCLAIMED: _FREE,
        _E.OTHER_CLAIMING: _OTHERS,
        # UNCLAIMED may have been written. If not, an earlier incarnation has the claim.
        _E.FENCED: _OTHERS,
    },
    # The log contradicts what the node knows. The state lasts until the log is clear again.
    _S.ERROR: {
        _E.UNCLAIMED: _FREE,
        _E.OTHER_CLAIMING: _OTHERS,
        _E.OTHER_CLAIMED: _OTHERS,
        _E.OTHER_HEARTBEAT: _OTHERS,
        _E.OTHER_HANDLING: _OTHERS_RUN,
        _E.OWN_CLAIMING: _LET_GO,
        _E.INITIATING_I: _FREE,
        _E.UNCLAIM_I: _LET_GO,
        _E.FENCED: _OTHERS,
    },
}

#: The cells in which nothing happens.
IGNORED = frozenset((state, event) for state in ClaimState for event in Event if event not in _ROWS[state])

#: All cells.
TABLE: Mapping[tuple[ClaimState, Event], Move] = {
    (state, event): _ROWS[state].get(event, Move(state)) for state in ClaimState for event in Event
}


def document() -> str:
    """The whole table in Markdown: a section for each state, in which the events that change nothing are one line."""
    return markdown(
        "The claim of a periodic entry, state by state",
        "Printed by `celery kafka claims --table`.",
        ("event", "next state", "what is done"),
        _ROWS,
        "Nothing happens at",
    )
