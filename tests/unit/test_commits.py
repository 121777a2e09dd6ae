"""Ended tasks are committed in the end, even if a commit is refused or their owner is gone before it made one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError

from kafka_exec.core.queue.progress import Progress
from kafka_exec.kafka.queue.commits import note_refusals


@pytest.mark.parametrize(("low", "ended", "expected"), [(0, [], False), (0, [0], True), (4, [], False), (4, [9], True)])
def test_what_the_last_owner_has_told_and_not_committed_is_to_be_committed(
    low: int, ended: list[int], expected: bool
) -> None:
    progress = Progress(low=low)
    for offset in ended:
        progress.end(offset)
    assert progress.differs(Progress.restore(low, Progress(low=low).metadata())) == expected


@pytest.mark.parametrize("for_all", [True, False])
def test_a_commit_that_is_refused_is_made_again_though_nothing_else_ends(for_all: bool) -> None:
    work = SimpleNamespace(committed=(5, ""), uncommitted=False)
    refusal = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)
    of_one = SimpleNamespace(partition=3, error=None if for_all else refusal)
    note_refusals({3: work}, refusal if for_all else None, [of_one, SimpleNamespace(partition=4, error=refusal)])
    assert (work.committed, work.uncommitted) == (None, True)


def test_a_commit_that_is_taken_is_not_made_again() -> None:
    work = SimpleNamespace(committed=(5, ""), uncommitted=False)
    note_refusals({3: work}, None, [SimpleNamespace(partition=3, error=None)])
    assert (work.committed, work.uncommitted) == ((5, ""), False)
