"""A wrong clock of a worker's machine: when it is told, and that the worker's timer does not go by it."""

from __future__ import annotations

import logging
import time

import pytest
from kombu.asynchronous.timer import Entry

from kafka_exec.core.nodes.clock import Skew
from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.worker.timer import LogTimer
from tests.unit.beats import Beats

EPOCH = 1_000_000.0
RIGHT, NEARLY, WRONG = 0.1, 0.8, 1.1


@pytest.mark.parametrize(
    ("ahead", "told_at"),
    [
        ([RIGHT] * 20, []),
        ([NEARLY] * 20, []),
        ([WRONG] * 4, []),
        ([WRONG] * 20, [4]),
        ([-WRONG] * 20, [4]),
        ([-3600.0, 3600.0] * 10, [4]),
        # A heartbeat that was read late now and then.
        ([WRONG, WRONG, WRONG, RIGHT] * 10, []),
        # A clock at the edge is told once, and one that was set right and goes wrong again, twice.
        ([*[WRONG] * 5, *[NEARLY] * 5] * 3, [4]),
        ([*[WRONG] * 5, *[RIGHT] * 5, *[WRONG] * 5], [4, 14]),
    ],
)
def test_a_clock_that_stays_wrong_is_told_once(ahead: list[float], told_at: list[int]) -> None:
    skew = Skew()
    assert [number for number, each in enumerate(ahead) if skew.take(each)] == told_at


@pytest.mark.parametrize(("ahead", "told"), [(0.0, ""), (60.0, "60.0 s ahead of"), (-60.0, "60.0 s behind")])
def test_a_node_tells_a_wrong_clock(ahead: float, told: str, caplog: pytest.LogCaptureFixture) -> None:
    beats = Beats()
    assert beats.node.clock_ahead is None
    for _ in range(20):
        beats.hear("me@here", Heartbeat(beats.node.incarnation, "here", 1), time.time() - ahead)
    assert beats.node.clock_ahead == pytest.approx(ahead, abs=1.0)
    lines = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(lines) == bool(told)
    assert all(f"the clock of this machine is {told} that of Kafka" in line for line in lines)


class Timed:
    """Celery's timer, which calls what is due when a test says so; the log's clock, and the machine's."""

    Entry = Entry

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.is_log_known = True
        self.ahead = 0.0
        self.called: list[float] = []
        self.entries: list[tuple[float, Entry]] = []
        monkeypatch.setattr(time, "time", lambda: EPOCH + self.now + self.ahead)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def enter_after(self, seconds: float, entry: Entry, priority: int) -> Entry:
        self.entries.append((self.now + seconds, entry))
        return entry

    def hold(self, wait: float) -> Entry:
        """Enters a task whose time comes so many seconds after the beginning, as Celery's strategy does."""
        timer = LogTimer(self, lambda: EPOCH + self.now if self.is_log_known else None)
        celerys = EPOCH + wait - (time.time() - time.monotonic())
        return timer.call_at(celerys, lambda task: self.called.append(self.now), ("t",), priority=6)

    def pass_until(self, end: float) -> None:
        while self.entries and self.entries[0][0] <= end:
            self.now, entry = self.entries.pop(0)
            entry()
        self.now = end


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
@pytest.mark.parametrize("then", [0.0, 3600.0, -3600.0])
def test_a_task_begins_by_the_logs_time(ahead: float, then: float, monkeypatch: pytest.MonkeyPatch) -> None:
    tested = Timed(monkeypatch)
    tested.ahead = ahead
    tested.hold(3.0)
    tested.pass_until(1.0)
    tested.ahead = then
    tested.pass_until(2.9)
    assert not tested.called
    tested.pass_until(10.0)
    assert tested.called == [3.0]


def test_a_task_waits_until_the_logs_time_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = Timed(monkeypatch)
    tested.is_log_known = False
    entry = tested.hold(-5.0)
    tested.pass_until(7.0)
    assert not tested.called
    assert [each for _, each in tested.entries] == [entry], "Celery cancels by it"
    tested.is_log_known = True
    tested.pass_until(7.5)
    assert len(tested.called) == 1
    assert not tested.entries
