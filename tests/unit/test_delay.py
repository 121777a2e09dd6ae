"""Messages that wait: which levels one passes through, what it carries meanwhile, and what Celery's times mean."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.cluster.settings import DEFAULT_PARTITIONS
from kafka_exec.core.control.delay import MARGIN, DelayHeaders, eta_of, hold_for, level_for, wait_of
from kafka_exec.core.message.envelope import Message
from kafka_exec.errors import Undecodable
from tests.unit.scenario import assert_played

LEVELS = DEFAULT_PARTITIONS["delay"]
SHORTEST = wait_of(0)
LONGEST = wait_of(LEVELS - 1)
SCENARIOS = sorted((Path(__file__).parent / "scenarios" / "delay").glob("*.txt"))


class Play:
    """Plays a scenario's lines: a message is sent, and moved when its level's wait is over, or so much later."""

    def __init__(self) -> None:
        self.left = 0.0
        self.levels = LEVELS
        self.level: int | None = None

    def answer(self, command: str, *words: str) -> str:
        if command == "levels":
            self.levels = int(words[0])
            return ""
        if command == "send":
            self.left = float(words[0])
        elif command == "move":
            assert self.level is not None
            self.left -= wait_of(self.level) + float(words[0] if words else 0)
        else:
            raise ValueError(f"a scenario knows no {command!r}")
        self.level = level_for(self.left, self.levels)
        if self.level is None:
            return f"queue, {self.left:g} s before its time"
        return f"level {self.level}, {wait_of(self.level):g} s"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    assert_played(path, Play().answer)


def hops(remaining: float, levels: int, late: list[float]) -> tuple[int, float]:
    """The number of times that a message is moved, each time ``late`` seconds too late, and the seconds left at the end."""
    number = 0
    while (level := level_for(remaining, levels)) is not None:
        remaining -= wait_of(level) + (late[number % len(late)] if late else 0.0)
        number += 1
    return number, remaining


TIMES = st.floats(MARGIN + SHORTEST, 20 * LONGEST)


@given(remaining=TIMES, levels=st.integers(4, LEVELS + 2))
def test_every_message_ends_within_the_last_moment_before_its_time(remaining: float, levels: int) -> None:
    remaining = min(remaining, 200 * wait_of(levels - 1))
    number, left = hops(remaining, levels, [])
    assert left + 1e-6 >= MARGIN
    assert left < MARGIN + SHORTEST
    assert number <= 3 * (levels - 1) + remaining / wait_of(levels - 1)


@given(remaining=TIMES, late=st.lists(st.floats(0, 0.9), min_size=1, max_size=5))
def test_a_late_move_costs_no_more_than_itself(remaining: float, late: list[float]) -> None:
    _, left = hops(remaining, LEVELS, late)
    assert MARGIN - max(late) <= left + 1e-6
    assert left < MARGIN + SHORTEST


@given(remaining=st.floats(allow_nan=True, allow_infinity=True), levels=st.integers(0, 20))
def test_no_wait_is_longer_than_what_is_left(remaining: float, levels: int) -> None:
    level = level_for(remaining, levels)
    assert level is None or (level < levels and wait_of(level) <= remaining - MARGIN)


def test_what_is_only_a_moment_away_does_not_wait() -> None:
    assert [level_for(seconds, LEVELS) for seconds in (-5.0, 0.0, MARGIN, MARGIN + SHORTEST - 0.001)] == [None] * 4


HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=5)


@given(
    headers=HEADERS,
    queue=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    step=st.integers(0, 3),
    until=st.floats(0, 1e11),
)
def test_what_a_message_carries_while_it_waits_is_gone_at_the_end(
    headers: list[tuple[str, bytes | None]], queue: str, step: int, until: float
) -> None:
    delay = DelayHeaders(queue, step, until)
    assert DelayHeaders.read(delay.write(headers)) == (delay, headers)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        [("delay-queue", b"q"), ("delay-step", b"0")],
        [("delay-queue", b"q"), ("delay-step", b"x"), ("delay-until", b"1")],
        [("delay-queue", b"q"), ("delay-step", b"0"), ("delay-until", None)],
        [("delay-queue", b"\xff"), ("delay-step", b"0"), ("delay-until", b"1")],
    ],
)
def test_a_record_that_does_not_say_where_it_goes_is_no_message(headers: list[tuple[str, bytes | None]] | None) -> None:
    with pytest.raises(Undecodable) as caught:
        DelayHeaders.read(headers)
    assert caught.value.reason == "no-delay"


def message(**headers: object) -> Message:
    return Message(b"", "application/json", "utf-8", headers, {})


NOON = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("eta", "found"),
    [
        (NOON.isoformat(), NOON),
        ("2030-01-01T12:00:00Z", NOON),
        ("2030-01-01T14:00:00+02:00", NOON),
        ("2030-01-01T12:00:00.250000", NOON + timedelta(seconds=0.25)),
        ("tomorrow", None),
        ("", None),
        (None, None),
        (12, None),
        ("9999-12-31T23:59:59-23:00", None),
    ],
)
def test_a_tasks_time_is_as_celerys_worker_reads_it(eta: object, found: datetime | None) -> None:
    expected = found and found.timestamp()
    if eta == "9999-12-31T23:59:59-23:00":
        assert eta_of(message(task="t", eta=eta)) is None or level_for(1e12, LEVELS) == LEVELS - 1
    else:
        assert eta_of(message(task="t", eta=eta)) == expected


def test_only_tasks_have_a_time() -> None:
    assert eta_of(message(eta=NOON.isoformat())) is None


@pytest.mark.parametrize(
    ("left", "wait"), [(-3600.0, -3600.0), (0.0, 0.0), (0.25, 0.25), (1.0, 1.0), (1.5, 1.0), (2.0, 1.0), (100.0, 50.0)]
)
def test_a_worker_waits_in_steps_for_a_tasks_time(left: float, wait: float) -> None:
    assert hold_for(1000.0 + left, 1000.0) == wait


def test_a_worker_that_does_not_know_the_time_begins_nothing() -> None:
    assert 0 < hold_for(0.0, None) < 1
