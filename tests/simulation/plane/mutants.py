"""Planted faults of the control plane: each changes the real code in one place, and the simulation must find it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from kafka_exec.core.control import wait_table, waiting
from kafka_exec.core.control.chord import ChordReducer
from kafka_exec.core.control.moved import Moved
from kafka_exec.core.control.reducers import Command
from kafka_exec.core.control.wait_table import WaitAct, WaitEvent, WaitMove, WaitOutcome, WaitPhase
from kafka_exec.core.control.waiters import NONE, Waiter
from kafka_exec.core.control.waiting import WaitingReducer
from kafka_exec.kafka.control import level
from kafka_exec.kafka.control.level import Level
from kafka_exec.kafka.control.partition import ControlPartition
from kafka_exec.kafka.control.transactional_batch import TransactionalBatch
from kafka_exec.kafka.publish.transactions import Lost
from tests.simulation.plane.world import PlanePlan
from tests.simulation.search import Change, Result, first_broken


def _commits_again(self: TransactionalBatch[Any], steps: Any) -> None:
    try:
        batch_commit(self, steps)
    except Lost:
        self._write(steps)


def _reads_to_the_present_end(self: ControlPartition) -> None:
    partition_fence(self)
    self._end = -1


def _stores_no_changes(self: ControlPartition, steps: Any) -> Any:
    return partition_changes(self, steps)[-1:]


def _forgets_fired(self: ChordReducer, *args: Any) -> Any:
    outputs = reducer_fire(self, *args)
    self._fired.clear()
    return outputs


def _passes_over_far_messages(self: Level, records: Any, now: float) -> None:
    level_take(self, records, now)
    self._next = self._next_to_read


def _refuses_alone(self: WaitingReducer, command: Command, effects: Any, *args: Any) -> Any:
    return wait_refused(self, command, [], *args)


def _restores_no_callbacks(self: WaitingReducer, *args: Any) -> None:
    """A head that comes behind its callbacks, as compaction may leave it, has none."""
    restore_head(self, *args)
    self._waiters.put(args[0], replace(self._waiters.get(args[0]), got=NONE))


def _restores_without_timer(self: WaitingReducer, name: str, found: Any) -> None:
    with patch.object(WaitingReducer, "_set_timer", lambda *args: None):
        restore_head(self, name, found)


def _watches_once(self: WaitingReducer, *args: Any) -> None:
    restore_head(self, *args)
    self._restored.clear()


def _never_again(waiter: Waiter, found: Waiter) -> WaitEvent:
    return WaitEvent.OTHER if waiter.phase is WaitPhase.WAITING else WaitEvent.SUSPEND


def _waits(*moves: tuple[WaitPhase, WaitEvent, WaitMove]) -> list[Change]:
    """The table of suspensions with some other cells."""
    table = {**wait_table.TABLE, **{(phase, event): move for phase, event, move in moves}}
    return [(waiting, "TABLE", table)]


_P, _E, _A = WaitPhase, WaitEvent, WaitAct

batch_commit, partition_fence = TransactionalBatch._commit, ControlPartition.fence
partition_changes, reducer_fire, level_take = ControlPartition._changes, ChordReducer._fire, Level.take
restore_head, wait_refused = WaitingReducer._restore_head, WaitingReducer.refused

#: The planted faults.
MUTANTS: dict[str, list[Change]] = {
    "a commit without an answer is made again": [(TransactionalBatch, "_commit", _commits_again)],
    "the changelog is read without the last changes": [(ControlPartition, "fence", _reads_to_the_present_end)],
    "changes are not in the transaction": [(ControlPartition, "_changes", _stores_no_changes)],
    "a chord that has fired is forgotten": [(ChordReducer, "_fire", _forgets_fired)],
    "what is too large is refused late": [(ControlPartition, "_refusal", lambda self, changes: None)],
    "the position of a level is not read": [(Level, "_last_moved", lambda self: Moved())],
    "what was moved ahead is forgotten": [(Moved, "has", lambda self, offset: offset < self.position)],
    "a delayed message goes to its queue at once": [(level, "level_for", lambda remaining, levels: None)],
    "what is due later is passed over": [(Level, "take", _passes_over_far_messages)],
    "a deadline ends a wait that has its callbacks": _waits(
        (_P.WAITING, _E.LAST, WaitMove(_P.WAITING, (_A.CONTINUE,), WaitOutcome.CONTINUED))
    ),
    "an early callback is forgotten": _waits((_P.UNKNOWN, _E.CALLBACK, WaitMove(_P.UNKNOWN, (), WaitOutcome.KEPT))),
    "an early callback is forgotten with a refused suspension": [(WaitingReducer, "refused", _refuses_alone)],
    "a refused callback is kept": _waits((_P.WAITING, _E.TOO_LARGE, WaitMove(_P.WAITING))),
    "a suspension is told again and counts": [(waiting, "_event_of_suspension", _never_again)],
    "callbacks are not restored before their head": [(WaitingReducer, "_restore_head", _restores_no_callbacks)],
    "counted callbacks are not restored": [(WaitingReducer, "_restore_callback", lambda *args: None)],
    "the deadline is not restored": [(WaitingReducer, "_restore_head", _restores_without_timer)],
    "watched ends are not looked for after a takeover": [(WaitingReducer, "_restore_head", _watches_once)],
    "a task that was refused is not remembered": [(Waiter, "note", lambda *args: None)],
}

#: A seed that finds each.
SEEDS: dict[str, int] = {
    "a commit without an answer is made again": 2,
    "the changelog is read without the last changes": 1,
    "changes are not in the transaction": 1,
    "a chord that has fired is forgotten": 1,
    "what is too large is refused late": 1,
    "the position of a level is not read": 1,
    "what was moved ahead is forgotten": 0,
    "a delayed message goes to its queue at once": 0,
    "what is due later is passed over": 0,
    "a deadline ends a wait that has its callbacks": 4,
    "an early callback is forgotten": 4,
    "an early callback is forgotten with a refused suspension": 77,
    "a refused callback is kept": 4,
    "a suspension is told again and counts": 4,
    "callbacks are not restored before their head": 5,
    "counted callbacks are not restored": 5,
    "the deadline is not restored": 5,
    "watched ends are not looked for after a takeover": 8,
    "a task that was refused is not remembered": 6,
}


def find(name: str, seeds: Iterable[int]) -> Result | None:
    """The first of some simulations that finds a planted fault; None if none does."""
    return first_broken(MUTANTS[name], map(PlanePlan.of, seeds))
