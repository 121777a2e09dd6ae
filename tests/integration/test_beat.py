"""Beats that share the periodic entries, as processes: killed, stopped, paused, restarted. Each slot is fired once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.beat_tools import Diary, assert_each_once, name_of
from tests.integration.workers import Beat, Crew, crew, until

PERIODS = {f"e{number}": 0.5 + 0.25 * (number % 3) for number in range(6)}


def entries(**more: Any) -> dict[str, Any]:
    return {name: {"task": "work", "schedule": period, "catch_up": "all", **more} for name, period in PERIODS.items()}


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, beat_schedule=entries(), result_expires=None) as found:
        yield found


def pair(made: Crew) -> tuple[Diary, Beat, Beat]:
    """Two beats: the first one holds all."""
    diary = Diary(made)
    first = made.start_beat("b1")
    diary.until_held(len(PERIODS))
    second = made.start_beat("b2")
    until(lambda: second.output.count("Starting"))
    diary.until_fired("e0", 3)
    return diary, first, second


def taken_over(diary: Diary, by: Beat, since: float) -> float:
    """Waits until another beat has fired each entry; how long it took from a time, at most, epoch seconds."""

    def first_of_each(_: object, fired: Any) -> list[float]:
        times = [
            min((each.at for each in fired[name] if each.by.startswith(name_of(by)) and each.at > since), default=0.0)
            for name in PERIODS
        ]
        return times if all(times) else []

    times: list[float] = diary.until(first_of_each, f"all fired by {by.name}")
    return max(times) - since


@pytest.mark.timed
@pytest.mark.parametrize("reaped", [True, False], ids=["its machine knows", "only heartbeats tell"])
def test_a_killed_beats_entries_move(made: Crew, reaped: bool) -> None:
    diary, first, second = pair(made)
    killed = time.time()
    first.signal(signal.SIGKILL)
    if reaped:
        first.process.wait()
    took = taken_over(diary, second, killed)
    print(f"failover after kill -9: {took:.2f} s")
    assert took < 15
    second.stop()
    assert_each_once(made, PERIODS)


@pytest.mark.timed
def test_a_stopped_beat_hands_over_at_once(made: Crew) -> None:
    diary, first, second = pair(made)
    stopped = time.time()
    first.stop()
    ended = time.time() - stopped
    took = taken_over(diary, second, stopped)
    print(f"failover after SIGTERM: {took:.2f} s; the beat ended after {ended:.2f} s")
    assert took < 10
    second.stop()
    assert_each_once(made, PERIODS)


def test_a_paused_beat_steps_down_and_neither_fires_nor_exits(made: Crew) -> None:
    diary, first, second = pair(made)
    paused = time.time()
    first.signal(signal.SIGSTOP)
    took = taken_over(diary, second, paused)
    print(f"failover after SIGSTOP: {took:.2f} s")
    first.signal(signal.SIGCONT)
    first.wait_for_line("is released by this node")
    diary.until_fired("e0", 3, after=time.time())
    assert set(diary.holders().values()) == {
        name for name in diary.holders().values() if name.startswith(name_of(second))
    }
    assert first.process.poll() is None
    back = time.time()
    second.stop()
    print(f"and back after SIGTERM: {taken_over(diary, first, back):.2f} s")
    first.stop()
    assert min(map(len, assert_each_once(made, PERIODS).values())) > 5


def test_after_all_were_down_each_slot_is_made_up_for(made: Crew) -> None:
    diary = Diary(made)
    first = made.start_beat("b1")
    diary.until_fired("e0", 3)
    first.stop()
    stopped = time.time()
    second = made.start_beat("b2")
    diary.until_fired("e0", 8, after=stopped)
    second.stop()
    assert_each_once(made, PERIODS)
