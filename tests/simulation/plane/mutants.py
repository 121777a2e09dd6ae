"""Planted faults of the control plane: each changes the real code in one place, and the simulation must find it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka_exec.core.control.chord import ChordReducer
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


batch_commit, partition_fence = TransactionalBatch._commit, ControlPartition.fence
partition_changes, reducer_fire, level_take = ControlPartition._changes, ChordReducer._fire, Level.take

#: The planted faults.
MUTANTS: dict[str, list[Change]] = {
    "a commit without an answer is made again": [(TransactionalBatch, "_commit", _commits_again)],
    "the changelog is read without the last changes": [(ControlPartition, "fence", _reads_to_the_present_end)],
    "changes are not in the transaction": [(ControlPartition, "_changes", _stores_no_changes)],
    "a chord that has fired is forgotten": [(ChordReducer, "_fire", _forgets_fired)],
    "what is too large is refused late": [(ControlPartition, "_refusal", lambda self, changes: None)],
    "the position of a level is not read": [(Level, "_last_position", lambda self: 0)],
    "a delayed message goes to its queue at once": [(level, "level_for", lambda remaining, levels: None)],
    "what is due later is passed over": [(Level, "take", _passes_over_far_messages)],
}

#: A seed that finds each.
SEEDS: dict[str, int] = {
    "a commit without an answer is made again": 0,
    "the changelog is read without the last changes": 1,
    "changes are not in the transaction": 1,
    "a chord that has fired is forgotten": 0,
    "what is too large is refused late": 5,
    "the position of a level is not read": 0,
    "a delayed message goes to its queue at once": 0,
    "what is due later is passed over": 0,
}


def find(name: str, seeds: Iterable[int]) -> Result | None:
    """The first of some simulations that finds a planted fault; None if none does."""
    return first_broken(MUTANTS[name], map(PlanePlan.of, seeds))
