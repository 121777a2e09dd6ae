"""The table of a record's states: every cell, and what must hold in all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafka_exec.core.queue.partition.states import IGNORED, TABLE, Action, Cell, RecordEvent, RecordState, document

CELLS = [(state, event, cell) for (state, event), cell in TABLE.items()]
cells = pytest.mark.parametrize(("state", "event", "cell"), CELLS, ids=lambda x: getattr(x, "name", ""))

#: The states in which a task may begin, and those in which it has begun.
ABLE, BEGUN = {RecordState.READY, RecordState.GRANTED}, {RecordState.BEGINNING, RecordState.RUNNING}

#: The events by which a task is handed out.
ARRIVES = {RecordEvent.FIRST, RecordEvent.ACCEPT}


def test_there_is_a_cell_for_every_state_and_event() -> None:
    assert set(TABLE) == {(state, event) for state in RecordState for event in RecordEvent}


@cells
def test_a_cell(state: RecordState, event: RecordEvent, cell: Cell) -> None:
    after, actions = cell.state, set(cell.actions)
    assert ((state, event) in IGNORED) == (cell == Cell(state))
    assert (Action.HAND_OUT in actions) == (after in ABLE and event in ARRIVES and state is not after)
    assert (Action.TELL_STARTED in actions) == (event is RecordEvent.BEGIN and state in {*ABLE, RecordState.BEGINNING})
    assert after is not RecordState.BEGINNING or state in {*ABLE, RecordState.BEGINNING}
    assert after is not RecordState.RUNNING or state in BEGUN, "nothing runs whose begin was not told"
    assert (Action.TELL_ENDED in actions) <= (after is RecordState.ENDED)
    assert (after is RecordState.ENDED and state is not after) <= (Action.LEAVE in actions), "its lane goes on"
    if state in BEGUN and after not in {*BEGUN, RecordState.ENDED} and event is not RecordEvent.YIELD:
        assert Action.TELL_RELEASED in actions, "others know that it does not run"
    if state is RecordState.ENDED:
        assert cell == Cell(state), "the end is final"


@pytest.mark.parametrize(
    "state", [each for each in RecordState if each not in {RecordState.RUNNING, RecordState.GRANTED}]
)
def test_a_lost_partition_leaves_what_does_not_run_to_its_new_owner(state: RecordState) -> None:
    for event in (RecordEvent.CLOSE, RecordEvent.LOSE):
        assert TABLE[state, event].state in {RecordState.UNREAD, RecordState.ENDED}


@pytest.mark.parametrize("event", [each for each in RecordEvent if each not in {RecordEvent.END, RecordEvent.PUT_BACK}])
def test_a_run_ends_by_its_own_end_or_its_break_only(event: RecordEvent) -> None:
    expected = RecordState.UNREAD if event is RecordEvent.GIVE_BACK else RecordState.RUNNING
    assert TABLE[RecordState.RUNNING, event].state is expected


def test_no_state_is_for_ever() -> None:
    for state in set(RecordState) - {RecordState.ENDED}:
        assert TABLE[state, RecordEvent.END].state is RecordState.ENDED


def test_the_documents_table_is_this_one() -> None:
    path = Path(__file__).parents[2] / "docs" / "records.md"
    assert path.read_text(encoding="utf-8") == document()
