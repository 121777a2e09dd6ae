"""The rates of tasks: what came, began and ended in a time, by name."""

from __future__ import annotations

from kafka_exec.core.overview.audit import JournalEvent
from kafka_exec.core.overview.rates import SentTask, TaskRates, rates
from kafka_exec.core.queue.transitions import ENDED, PARKED, STARTED, Transition


def told(kind: str, offset: int, at: float, attempt: int = 0) -> JournalEvent:
    return JournalEvent(Transition(kind, offset, attempt), "one", 0, at)


MESSAGES = {1: SentTask("pay", 90.0), 2: SentTask("pay", 101.0), 3: SentTask("mail", 102.0)}


def test_messages_runs_and_ends_count_where_they_fell_into_the_time() -> None:
    journal = [told(STARTED, 1, 100.0, 1), told(STARTED, 2, 103.0, 1), told(ENDED, 1, 104.0), told(PARKED, -1, 104.0)]
    assert rates(MESSAGES, journal, 100.0) == {
        "pay": TaskRates(sent=1, begun=2, ended=1, first=2, waited=12.0),
        "mail": TaskRates(sent=1),
    }


def test_a_run_that_is_begun_again_has_not_waited() -> None:
    found = rates(MESSAGES, [told(STARTED, 1, 200.0, 2), told(ENDED, 1, 201.0)], 150.0)
    assert found == {"pay": TaskRates(begun=1, ended=1)}
    assert found["pay"].wait is None


def test_a_message_that_was_not_read_has_no_name() -> None:
    assert rates({}, [told(STARTED, 7, 1.0, 1), told(ENDED, 7, 2.0)], 0.0) == {"": TaskRates(begun=1, ended=1)}


def test_a_begin_before_the_message_by_another_clock_is_no_time() -> None:
    assert rates(MESSAGES, [told(STARTED, 3, 101.0, 1)], 103.0)["mail"].wait == 0.0


def test_numbers_are_added_and_told() -> None:
    total = TaskRates(1, 2, 3, 1, 2.0) + TaskRates(sent=1, first=1, waited=1.0)
    assert total.facts(60) == {"seconds": 60, "sent": 2, "begun": 2, "ended": 3, "wait": 1.5}
