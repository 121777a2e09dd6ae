"""The audit of a partition: what keeps the promises has no finding, and each planted breach has one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kafka_exec.core.overview.audit import Audit, Breach, JournalEvent, audit
from kafka_exec.core.overview.counts import QueueRecord
from kafka_exec.core.queue.lanes import STOPPED, Lane, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import ENDED, RELEASED, STARTED, Transition, freed, held

K = Lane("key", "k")


def record(offset: int, run: Run | None = None, lane: Lane | None = K) -> QueueRecord:
    return QueueRecord(offset, float(offset), None if lane is None else Ticket(lane, run or Run(f"t{offset}", 0)))


def s(offset: int, attempt: int = 1) -> Transition:
    return Transition(STARTED, offset, attempt)


def e(offset: int) -> Transition:
    return Transition(ENDED, offset)


def r(offset: int, attempt: int = 1) -> Transition:
    return Transition(RELEASED, offset, attempt)


def result(records: Iterable[QueueRecord], *journal: Transition, by: str = "one", committed: int = 0) -> Audit:
    """The audit of records, with the ledger that folds the same journal."""
    ledger = Ledger("q", Progress(0))
    ledger.fold(journal, by)
    if committed:
        ledger.take_commit(Progress(committed))
    told = [JournalEvent(transition, by, place, float(place)) for place, transition in enumerate(journal)]
    return audit(records, told, ledger, lambda incarnation: incarnation == "one")


def breaches(found: Audit) -> list[tuple[Breach, int]]:
    return [(each.breach, each.offset) for each in found.findings]


def test_what_ran_once_and_in_order_keeps_all_promises() -> None:
    found = result([record(n) for n in range(3)], s(0), e(0), s(1), e(1), s(2), e(2), committed=3)
    assert found == Audit(sent=3, ended=3)


def test_what_has_not_ended_runs_or_waits_or_was_lost_with_its_worker() -> None:
    records = [record(n, lane=None) for n in range(3)]
    assert result(records, s(0), s(1), e(1)) == Audit(sent=3, ended=1, running=1, waiting=1)
    assert result(records, s(0), by="gone") == Audit(sent=3, lost_runs=1, waiting=2)


def test_a_run_that_is_begun_again_after_its_worker_was_lost_is_no_breach() -> None:
    assert result([record(0)], s(0), s(0, 2), e(0)) == Audit(sent=1, ended=1, repeated=1)
    assert result([record(0)], s(0), r(0), s(0, 2), e(0)) == Audit(sent=1, ended=1, repeated=1)


def test_a_transition_that_is_written_twice_is_no_breach() -> None:
    assert result([record(0)], s(0), s(0), e(0), e(0)) == Audit(sent=1, ended=1)


def test_a_task_that_the_commit_has_passed_without_an_end_is_lost() -> None:
    found = result([record(n, lane=None) for n in range(3)], s(0), e(0), committed=2)
    assert breaches(found) == [(Breach.LOST, 1)]
    assert (found.ended, found.waiting) == (1, 1)


def test_a_begin_after_the_end_is_one() -> None:
    found = result([record(0, lane=None)], s(0), e(0), s(0, 2))
    assert breaches(found) == [(Breach.AGAIN, 0)]
    assert (found.findings[0].told, found.findings[0].by) == (2, "one")


def test_tasks_of_a_key_that_run_at_the_same_time_overlap() -> None:
    assert breaches(result([record(0), record(1)], s(0), s(1), e(1), e(0))) == [(Breach.OVERLAP, 1)]
    other = record(1, lane=Lane("key", "other"))
    assert breaches(result([record(0), other], s(0), s(1), e(1), e(0))) == []


def test_a_task_of_a_key_that_begins_before_an_earlier_one_is_an_inversion() -> None:
    assert breaches(result([record(0), record(1)], s(1), e(1), s(0), e(0))) == [(Breach.INVERSION, 1)]


def test_an_earlier_task_that_ended_without_a_begin_is_waited_for_no_more() -> None:
    assert breaches(result([record(0), record(1)], e(0), s(1), e(1))) == []


def test_a_key_waits_for_the_retry_of_its_first_task() -> None:
    retry = Run("t0", 1)
    records = [record(0), record(1), record(2, retry)]
    hold = held(0, K, retry)
    assert breaches(result(records, s(0), e(0), hold, s(2), e(2), s(1), e(1))) == []
    assert breaches(result(records, s(0), e(0), hold, s(1), e(1), s(2), e(2))) == [(Breach.INVERSION, 1)]


@pytest.mark.parametrize("hold", [Run("t0", 1), Run("t0", STOPPED)])
def test_a_key_that_an_operator_lets_go_on_waits_no_more(hold: Run) -> None:
    assert breaches(result([record(0), record(1)], s(0), e(0), held(0, K, hold), freed(-1, K, hold), s(1), e(1))) == []
    assert breaches(result([record(0), record(1)], s(0), e(0), held(0, K, hold), s(1), e(1))) == [(Breach.INVERSION, 1)]


def test_a_retry_of_a_task_that_was_sent_before_the_time_is_no_inversion() -> None:
    assert breaches(result([record(5), record(6, Run("t0", 1))], s(6), e(6), s(5), e(5))) == []


def test_transitions_of_other_records_and_of_later_versions_do_not_count() -> None:
    strange = Transition("h", 0, 0, ("key",))
    assert result([record(5)], s(0), e(0), s(0, 2), strange, s(5), e(5)) == Audit(sent=1, ended=1)


def test_audits_add_up() -> None:
    total = Audit()
    for _ in range(2):
        total.add(Audit(1, 2, 3, 4, 5, 6))
    assert total == Audit(2, 4, 6, 8, 10, 12)
