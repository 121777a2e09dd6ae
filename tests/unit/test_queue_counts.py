"""The counts of a queue: each task that has not ended is counted once, by what it waits for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.overview.counts import QueueCounts, QueueRecord, counts_of
from kafka_exec.core.overview.queues import QueueReport, QueueState, report
from kafka_exec.core.queue.lanes import STOPPED, Lane, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.kafka.overview import queues

K = Lane("key", "k")


def record(offset: int, lane: Lane | None = None, run: Run | None = None) -> QueueRecord:
    """A record that was written at the second of its offset."""
    ticket = None if lane is None else Ticket(lane, run or Run(f"t{offset}", 0))
    return QueueRecord(offset, float(offset), ticket)


def ledger(low: int = 0) -> Ledger:
    return Ledger("q", Progress(low))


def lives(incarnation: str) -> bool:
    return incarnation == "alive"


def test_an_empty_queue_has_nothing() -> None:
    assert counts_of(ledger(), [], 0, lives) == QueueCounts()


def test_what_has_ended_does_not_count_and_the_oldest_is_the_first_that_is_ready() -> None:
    of = ledger()
    of.end(0)
    of.end(2)
    of.start(1, "alive")
    assert counts_of(of, map(record, range(5)), 0, lives) == QueueCounts(ready=2, running=1, oldest=3.0)


def test_a_run_of_an_incarnation_that_is_gone_is_lost() -> None:
    of = ledger()
    of.start(0, "alive")
    of.start(1, "gone")
    of.start(2, "alive")
    of.grant(2, "alive")  # begun before, and given to another worker
    assert counts_of(of, map(record, range(3)), 0, lives) == QueueCounts(running=2, lost=1)


def test_a_task_that_was_given_to_a_worker_and_has_not_begun_is_ready() -> None:
    of = ledger()
    of.grant(0, "alive")
    of.grant(1, "gone")
    assert counts_of(of, map(record, range(2)), 0, lives) == QueueCounts(ready=2, oldest=0.0)


def test_tasks_behind_a_run_of_their_key_wait_for_it_and_other_keys_do_not() -> None:
    of = ledger()
    of.start(0, "alive")
    records = [record(0, K), record(1, K), record(2, Lane("key", "other")), record(3)]
    assert counts_of(of, records, 0, lives) == QueueCounts(running=1, ordered=1, ready=2, oldest=2.0)


@pytest.mark.parametrize(("run", "kind"), [(Run("t", 1), "held"), (Run("t", STOPPED), "stopped")])
def test_tasks_of_a_key_that_waits_for_a_run_count_by_what_it_is(run: Run, kind: str) -> None:
    of = ledger()
    of.hold(K, run)
    assert counts_of(of, [record(0, K), record(1, K)], 0, lives) == QueueCounts(**{kind: 2})


def test_the_retry_that_a_key_waits_for_is_ready() -> None:
    of = ledger()
    of.hold(K, Run("t", 1))
    records = [record(0, K), record(1, K, Run("t", 1))]
    assert counts_of(of, records, 0, lives) == QueueCounts(held=1, ready=1, oldest=1.0)


def test_parked_tasks_count_by_what_they_wait_for_though_the_commit_has_passed_them() -> None:
    of = ledger(low=10)
    of.hold(K, Run("t", STOPPED))
    of.progress = of.progress.without([3, 4])
    of.park(K, [3, 4])
    assert of.progress.low == 10
    assert counts_of(of, [record(10, K)], 0, lives) == QueueCounts(stopped=3, parked=2)


def test_what_was_not_read_counts_as_ready() -> None:
    assert counts_of(ledger(), [record(0)], 5, lives) == QueueCounts(ready=6, oldest=0.0, uncounted=5)


@given(
    ended=st.sets(st.integers(0, 30)),
    leased=st.dictionaries(st.integers(0, 30), st.sampled_from(["alive", "gone"])),
    keys=st.lists(st.sampled_from(["", "a", "b"]), min_size=31, max_size=31),
    held=st.sets(st.sampled_from(["a", "b"])),
    stops=st.booleans(),
)
def test_each_unfinished_task_is_counted_once(
    ended: set[int], leased: dict[int, str], keys: list[str], held: set[str], stops: bool
) -> None:
    of = ledger()
    for offset, incarnation in leased.items():
        of.start(offset, incarnation)
    for offset in ended:
        of.end(offset)
    for name in held:
        of.hold(Lane("key", name), Run("x", STOPPED if stops else 1))
    found = counts_of(of, [record(n, Lane("key", key) if key else None) for n, key in enumerate(keys)], 0, lives)
    assert found.total == 31 - len(ended)
    assert found.running + found.lost == len(set(leased) - ended)


@given(ended=st.sets(st.integers(0, 40)), low=st.integers(0, 10), begin=st.integers(0, 40), length=st.integers(0, 20))
def test_unfinished_offsets_are_counted(ended: set[int], low: int, begin: int, length: int) -> None:
    progress = Progress(low)
    for offset in ended:
        progress.end(offset)
    expected = sum(not progress.has_ended(offset) for offset in range(begin, begin + length))
    assert progress.unfinished(begin, begin + length) == expected


def beat(*queues: str, slots: int, active: int) -> Heartbeat:
    return Heartbeat("i", "here", 1, slots=slots, active=active, queues=queues)


def test_a_report_counts_the_workers_of_its_queue() -> None:
    beats = [beat("q", "r", slots=4, active=1), beat("q", slots=2, active=2), beat("r", slots=8, active=0)]
    found = report("q", QueueCounts(), beats)
    assert (found.workers, found.slots, found.free) == (2, 6, 3)


@pytest.mark.parametrize(
    ("found", "workers", "free", "state"),
    [
        (QueueCounts(), 1, 1, QueueState.EMPTY),
        (QueueCounts(), 0, 0, QueueState.EMPTY),
        (QueueCounts(ready=1), 1, 1, QueueState.WORKING),
        (QueueCounts(running=1), 1, 0, QueueState.WORKING),
        (QueueCounts(ready=1, running=1), 1, 0, QueueState.FULL),
        (QueueCounts(lost=1), 1, 0, QueueState.WORKING),
        (QueueCounts(stopped=1), 1, 1, QueueState.BLOCKED),
        (QueueCounts(stopped=1, ready=1), 1, 1, QueueState.WORKING),
        (QueueCounts(ready=1), 0, 0, QueueState.NO_WORKERS),
        (QueueCounts(held=1), 0, 0, QueueState.NO_WORKERS),
        (QueueCounts(running=1), 0, 0, QueueState.NO_WORKERS),
    ],
)
def test_the_state_of_a_queue(found: QueueCounts, workers: int, free: int, state: QueueState) -> None:
    assert QueueReport("q", found, workers=workers, slots=workers and 2, busy=2 - free).state is state


def test_a_record_whose_place_cannot_be_told_counts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise RuntimeError("a record of no known kind")

    monkeypatch.setattr(queues, "ticket_of", fails)
    strange: Any = SimpleNamespace(
        headers=list, value=bytes, topic=str, partition=int, offset=lambda: 7, timestamp=lambda: (1, 9000)
    )
    assert queues.queue_record(strange) == QueueRecord(7, 9.0)
