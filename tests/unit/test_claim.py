"""The table of claims: every cell, and what must hold in all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafka_exec.core.beat.claim import HELD, IGNORED, TABLE, ClaimState, Do, Event, Move, document

CELLS = [(state, event, move) for (state, event), move in TABLE.items()]
cells = pytest.mark.parametrize(("state", "event", "move"), CELLS, ids=lambda x: getattr(x, "name", ""))

#: Only who holds an entry says so, and fires it.
HOLDERS = {Do.SEND_CLAIMED, Do.SEND_HEARTBEAT, Do.SEND_HANDLING}


def test_there_is_a_cell_for_every_state_and_event() -> None:
    assert set(TABLE) == {(state, event) for state in ClaimState for event in Event}


@cells
def test_a_cell(state: ClaimState, event: Event, move: Move) -> None:
    assert ((state, event) in IGNORED) == (move == Move(state))
    was, will = state in HELD, move.state in HELD
    assert (Do.ACQUIRED in move.actions) == (will and not was)
    assert (Do.RELEASED in move.actions) == (was and not will)
    assert (Do.STOP_RUN in move.actions) == (state is ClaimState.HANDLING_BY_NODE and not will)
    assert will or HOLDERS.isdisjoint(move.actions)
    assert (Do.WAIT in move.actions) <= (move.state is ClaimState.INITIATING)
    if Do.RELEASED in move.actions:
        told = move.actions.index(Do.RELEASED)
        assert Do.SEND_UNCLAIMED not in move.actions[:told], "it is let go before others are told"
        assert Do.STOP_RUN not in move.actions[told:], "the run ends before the claim"
    if Do.ACQUIRED in move.actions:
        assert event is Event.OWN_CLAIMING, "only the log makes a holder"
    if Do.SEND_HANDLING in move.actions:
        assert state in HELD


@pytest.mark.parametrize("state", sorted(HELD, key=str))
@pytest.mark.parametrize("event", [Event.FENCED, Event.UNCLAIMED, Event.CONFLICT, Event.UNCLAIM_I])
def test_a_holder_steps_down(state: ClaimState, event: Event) -> None:
    assert TABLE[state, event].state not in HELD


@pytest.mark.parametrize("state", list(ClaimState))
def test_no_state_is_for_ever_once_the_entry_is_free(state: ClaimState) -> None:
    assert TABLE[state, Event.UNCLAIMED].state is ClaimState.INITIATING


def test_an_error_is_left_by_all_that_clears_it() -> None:
    left = {event for event in Event if TABLE[ClaimState.ERROR, event].state is not ClaimState.ERROR}
    assert {Event.UNCLAIMED, Event.OTHER_CLAIMED, Event.INITIATING_I, Event.UNCLAIM_I, Event.FENCED} <= left


def test_the_documents_table_is_this_one() -> None:
    path = Path(__file__).parents[2] / "docs" / "claims.md"
    assert path.read_text(encoding="utf-8") == document()
