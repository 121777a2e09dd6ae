"""The reading of a log up to its end: lines about the progress of a long one, and the timeout."""

from __future__ import annotations

from kafka_exec.core.cluster.reading import TIMEOUT, Reading


def test_a_short_log_is_read_without_a_word() -> None:
    reading = Reading("a journal", 10, 5.0)
    assert [reading.look(left, 5.0 + 0.1 * (10 - left)) for left in range(9, -1, -1)] == [None] * 10


def test_of_a_long_one_it_is_told_every_other_second_how_far_it_is_read() -> None:
    reading = Reading("a journal", 1000, 0.0)
    lines = [line for n in range(1, 101) if (line := reading.look(1000 - 10 * n, n / 10))]
    assert lines[:2] == [
        "reading a journal: 200 of 1000 records in 2 s",
        "reading a journal: 400 of 1000 records in 4 s",
    ]
    assert len(lines) == 5


def test_one_that_goes_on_may_take_any_time_and_one_that_does_not_is_given_up() -> None:
    reading = Reading("a journal", 100, 0.0)
    for n in range(1, 50):
        reading.look(100 - n, n * TIMEOUT)
        assert not reading.is_stuck(n * TIMEOUT)
    reading.look(51, 50 * TIMEOUT + 1)
    assert reading.is_stuck(50 * TIMEOUT + 1)
