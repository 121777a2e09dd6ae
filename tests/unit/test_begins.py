"""Begins of tasks: the records that must be durable before a task runs."""

from __future__ import annotations

from kafka_exec.core.queue.partition.begins import Begins


def begun(begins: Begins, offset: int, number: int, *, has_lane: bool = True, attempts: int = 1) -> int | None:
    begins.begin(offset, number, has_lane=has_lane, attempts=attempts, is_contested=False)
    return begins.awaits(offset)


def test_what_was_reserved_when_it_was_read_need_not_wait_for_what_is_told_when_it_begins() -> None:
    begins = Begins()
    begins.reserve(1, 10)
    assert begun(begins, 1, 20) == 10
    assert begun(begins, 2, 21) == 21
    assert begun(begins, 3, 22, has_lane=False) is None
    begins.reserve(4, 11)
    assert begun(begins, 4, 23, attempts=2) == 23, "how often it was begun is told with its begin only"


def test_what_is_durable_has_ended_or_was_given_up_is_awaited_no_more() -> None:
    begins = Begins()
    for offset in (1, 2):
        begun(begins, offset, offset)
    begins.settle(1)
    begins.forget(2)
    assert [begins.awaits(1), begins.awaits(2)] == [None, None]
    begins.reserve(3, 3)
    begins.reserve(4, 4)
    begins.forget(4)
    assert begins.give_up() == [3]
    assert begins.give_up() == []
    assert begun(begins, 3, 9) == 9
