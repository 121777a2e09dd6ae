"""A task's time has come when Kafka's clock says so, whatever the clock of the worker's machine says, or does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.operations.metrics import TopicMetrics
from tests.integration.workers import Crew, Worker, crew

HOUR = 3600.0
YEARS = 3 * 365 * 24 * HOUR

#: Kafka's times are whole milliseconds, and the file's lines tenths of one.
ROUNDED = 0.001

#: Waits too short for a level of delays, for one level, and for several.
WAITS = (-HOUR, 0.3, 0.8, 1.2, 1.9, 2.5, 4.0, 5.0, 7.0)


class WrongWorker(Worker):
    app = "tests.integration.wrong_clock_app:app"


class Clock:
    """The clock of the workers' machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0.0)

    def set(self, ahead: float) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(str(ahead))
        new.replace(self.path)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, kafka_exec_heartbeat=0.3) as found:
        yield found


def start(made: Crew, clock: Clock, pool: str = "threads") -> Worker:
    worker = made.start("w", "-c", "4", "-P", pool, kind=WrongWorker, env={"CLOCK": str(clock.path)})
    made.ready(worker)
    return worker


def send(made: Crew) -> dict[str, float]:
    """Sends tasks with times. Returns the time of each."""
    now = time.time()
    due = {}
    for wait in WAITS:
        [task_id] = made.send("work", eta=datetime.fromtimestamp(now + wait, timezone.utc))
        due[task_id] = now + wait
    return due


def assert_in_time(made: Crew, due: dict[str, float]) -> None:
    made.effects.wait_for(due)
    made.effects.assert_once(due, "begin")
    late = {each.task: each.time - due[each.task] for each in made.effects.all("begin") if each.task in due}
    assert min(late.values()) >= -ROUNDED, late


@pytest.mark.parametrize(
    ("ahead", "pool"),
    [(HOUR, "threads"), (YEARS, "threads"), (-HOUR, "prefork")],
    ids=["ahead", "ahead by more than the machine is up", "behind"],
)
def test_a_wrong_clock_begins_no_task_early_or_late_and_is_told_once(
    made: Crew, clock: Clock, ahead: float, pool: str
) -> None:
    clock.set(ahead)
    worker = start(made, clock, pool)
    assert_in_time(made, send(made))
    told = f"the clock of this machine is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} that of Kafka"
    worker.wait_for_line(told)
    assert_in_time(made, send(made))
    assert len(worker.lines("the clock of this machine")) == 1
    skews = [each for each in TopicMetrics(made.app).read(time.time()) if each.name == "clock_skew_seconds"]
    [(labels, skew)] = skews[0].samples
    assert labels == (worker.node,)
    assert abs(skew - ahead) < 60


@pytest.mark.parametrize(("before", "after"), [(-HOUR, 0.0), (0.0, HOUR)])
def test_a_clock_that_is_set_moves_no_task(made: Crew, clock: Clock, before: float, after: float) -> None:
    clock.set(before)
    start(made, clock)
    due = send(made)
    made.effects.wait_for(list(due)[:1])
    clock.set(after)
    assert_in_time(made, due)


@pytest.mark.parametrize(
    ("ahead", "then", "pool"),
    [(HOUR, HOUR, "threads"), (-HOUR, -HOUR, "prefork"), (HOUR, 0.0, "threads")],
    ids=["ahead", "behind", "set right amid the run"],
)
def test_a_retry_waits_as_long_as_it_is_to_wait(made: Crew, clock: Clock, ahead: float, then: float, pool: str) -> None:
    clock.set(ahead)
    worker = start(made, clock, pool)
    worker.wait_for_line("the clock of this machine")
    waits = {task_id: wait for wait in (1.0, 6.0) for task_id in made.send("stumble", 1, wait, 1.0)}
    made.effects.wait_for(waits, "begin")
    clock.set(then)
    made.effects.wait_for(waits)
    for task_id, wait in waits.items():
        [retried] = [each.time for each in made.effects.all("retry") if each.task == task_id]
        _, again = [each.time for each in made.effects.all("begin") if each.task == task_id]
        assert again - retried >= wait - 0.5
