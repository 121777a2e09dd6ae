"""Periodic entries that run on the node that holds them: one process for each claim, and never two runs at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.beat.agenda import run_id
from tests.integration.beat_tools import Diary, Fired, name_of
from tests.integration.workers import PATIENCE, Beat, Crew, Effect, crew, until


@contextmanager
def made_with(kafka: EmbeddedKafka, folder: Path, **entry: Any) -> Iterator[Crew]:
    """A crew with one entry that runs on its node."""
    told = {"task": "tick", "on_node": True, "catch_up": "all", **entry}
    with crew(kafka, folder, backend="same", beat_schedule={"e": told}, result_expires=None) as found:
        yield found


def lives(made: Crew) -> dict[str, list[Effect]]:
    """The lines of each run, in the order of their times; the runs in that of their begins."""
    runs: dict[str, list[Effect]] = {}
    effects = [effect for what in ("begin", "tick", "end") for effect in made.effects.all(what)]
    for effect in sorted(effects, key=lambda each: each.time):
        runs.setdefault(effect.task, []).append(effect)
    return runs


def assert_one_at_a_time(made: Crew) -> dict[str, list[Effect]]:
    """No run began before the last sign of life of the one before, nor twice."""
    runs = lives(made)
    for before, after in pairwise(runs.values()):
        assert before[-1].time <= after[0].time
    made.effects.assert_once(runs, "begin")
    return runs


def pair(made: Crew) -> tuple[Beat, Beat, Effect]:
    """Two beats, of which the first one runs the entry: the begin of its run."""
    first = made.start_beat("b1")
    begin = until(lambda: made.effects.all("tick"))[0]
    second = made.start_beat("b2")
    second.wait_for_line("Starting")
    return first, second, begin


def run_by(made: Crew, beat: Beat) -> Any:
    """Waits until a beat runs the entry."""
    return until(lambda: [each for each in made.effects.all("tick") if each.worker == beat.name], what=beat.name)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


@pytest.mark.timed
def test_a_worker_with_b_runs_it_in_one_process_for_the_whole_claim(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, schedule=1.5, args=[0.02]) as made:
        diary = Diary(made)
        worker = made.start("w", "-B", "--scheduler", "kafka-exec", "-c", "1")
        fired = diary.until_fired("e", 3)
        ids = [run_id("e", each.slot) for each in fired]
        made.effects.wait_for(ids)
        epoch = diary.read()[0].standing("e").epoch
        assert [made.app.AsyncResult(each).get(timeout=PATIENCE) for each in ids] == [epoch] * len(ids)
        worker.stop()
        assert diary.holders() == {}
        runs = assert_one_at_a_time(made)
        acquired, released = made.effects.all("acquired"), made.effects.all("released")
        assert {each.pid for lines in runs.values() for each in lines} == {acquired[0].pid}
        assert [each.pid for each in (*acquired, *released)] == 2 * [acquired[0].pid], "once per claim"
        assert acquired[0].time <= next(iter(runs.values()))[0].time
        assert released[0].time >= list(runs.values())[-1][-1].time
        slots = [each.slot for each in diary.read()[1]["e"]]
        assert {float(each.task) for each in made.effects.all("slot")} <= set(slots)
        assert set(ids) <= set(runs)
        assert made.backlog() == 0


def test_after_kill_9_the_run_is_over_and_the_next_one_is_another_nodes(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, schedule=0.5) as made:
        first, second, run = pair(made)
        first.signal(signal.SIGKILL)
        until(lambda: gone(run.pid), what="the run's process is gone")
        run_by(made, second)
        assert_one_at_a_time(made)
        assert Diary(made).holders()["e"].startswith(name_of(second))


def test_a_paused_nodes_run_is_over_before_another_node_begins_one(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, schedule=0.5) as made:
        first, second, _ = pair(made)
        first.signal(signal.SIGSTOP)
        run_by(made, second)
        first.signal(signal.SIGCONT)
        first.wait_for_line("is released by this node")
        assert_one_at_a_time(made)
        assert len(lives(made)) == 2
        first.stop()


@pytest.mark.timed
def test_a_shutdown_stops_the_run_and_releases_the_claim(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, schedule=0.5) as made:
        first, second, run = pair(made)
        first.stop()
        assert gone(run.pid)
        run_by(made, second)
        assert [each.pid for each in made.effects.all("released")] == [run.pid]
        assert made.app.AsyncResult(run.task).state == "FAILURE"
        runs = assert_one_at_a_time(made)
        assert runs[run.task][-1].time <= made.effects.all("released")[0].time <= made.effects.all("acquired")[1].time


@pytest.mark.parametrize("stubborn", [False, True], ids=["it stops", "it does not"])
def test_a_run_is_stopped_at_max_duration_and_the_next_one_begins(
    kafka: EmbeddedKafka, tmp_path: Path, stubborn: bool
) -> None:
    with made_with(kafka, tmp_path, schedule=0.5, max_duration=1.0, kwargs={"stubborn": stubborn}) as made:
        beat = made.start_beat("b1")
        until(lambda: len(made.effects.all("begin")) >= 3)
        assert "periodic-overrun: runs take longer than their max_duration: e" in beat.output
        beat.stop()
        runs = list(assert_one_at_a_time(made).values())
        # Not before its time: the next one begins when this one is stopped.
        fired = Diary(made).read()[1]["e"]
        assert all(after[0].time - each.at > 0.9 for each, after in zip(fired, runs[1:3], strict=False))
        killed = beat.output.count("the run of periodic entry e does not stop: its process is killed")
        pids = {lines[0].pid for lines in runs}
        assert len(pids) in (killed, killed + 1), "only a killed process is followed by another one"
        assert killed >= 2 if stubborn else "RunStopped" in beat.output
        assert {each.pid for each in made.effects.all("acquired")} >= pids


def test_a_process_that_dies_is_told_and_followed_by_another(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, schedule=0.5) as made:
        beat = made.start_beat("b1")
        killed = until(lambda: made.effects.all("tick"))[0]
        os.kill(killed.pid, signal.SIGKILL)
        until(lambda: len(made.effects.all("begin")) == 2)
        beat.wait_for_line("the process of periodic entry e has died: -9")
        assert_one_at_a_time(made)


def test_a_retry_is_run_in_place(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, task="stumble", schedule=0.5, kwargs={"failures": 2}) as made:
        made.start_beat("b1")
        first = until(lambda: made.effects.all("end"))[0].task
        assert made.effects.count("begin")[first] == 3
        assert until(lambda: made.app.AsyncResult(first).state == "SUCCESS")
        topics = kafka.admin().list_topics(timeout=10).topics
        assert f"{made.prefix}.queue.celery" not in topics, "nothing was published"


def overlaps(kafka: EmbeddedKafka, folder: Path, **entry: Any) -> tuple[list[Fired], list[list[Effect]], int]:
    """Some firings of an entry that is due more often than it has ended, its runs, and how many slots were missed."""
    with made_with(kafka, folder, **{"schedule": 0.5, "args": [0.7], **entry}) as made:
        beat = made.start_beat("b1")
        until(lambda: len(made.effects.all("begin")) >= 5)
        beat.stop()
        runs = assert_one_at_a_time(made)
        log, fired = Diary(made).read()
        return fired["e"], list(runs.values()), log.standing("e").missed


def test_what_is_due_during_a_run_waits(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    fired, runs, _ = overlaps(kafka, tmp_path, catch_up="one")
    assert {round((b.slot - a.slot) / 0.5, 3) for a, b in pairwise(fired)} == {1.0}
    assert all(lines[-1].what == "end" for lines in runs[:4])


def test_what_is_due_during_a_run_is_skipped(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    fired, runs, missed = overlaps(kafka, tmp_path, overlap="skip")
    steps = [round((b.slot - a.slot) / 0.5) for a, b in pairwise(fired)]
    assert all(step >= 2 for step in steps)
    assert missed == sum(steps) - len(steps)
    assert all(lines[-1].what == "end" for lines in runs[:4])


def test_what_is_due_during_a_run_replaces_it(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    _, runs, _ = overlaps(kafka, tmp_path, overlap="replace", args=[60.0])
    assert all(lines[-1].what == "tick" for lines in runs)


def test_a_period_may_begin_at_the_end_of_a_run(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    fired, runs, missed = overlaps(kafka, tmp_path, after_end=True)
    assert missed == 0
    # Ends are noted when the run's node sees them, times are those of the log.
    assert all(after[0].time - before[-1].time > 0.4 for before, after in pairwise(runs))
    assert all(b.slot - a.at > 1.0 for a, b in pairwise(fired))


def test_nodes_take_turns_between_runs(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, schedule=0.5, args=[0.1], max_executions_on_node=2) as made:
        beats = [made.start_beat(name) for name in ("b1", "b2")]
        until(lambda: len({each.worker for each in made.effects.all("end")}) == 2, what="both have run it")
        for beat in beats:
            beat.stop()
        runs = list(assert_one_at_a_time(made).values())
        by_process: dict[int, int] = {}
        for lines in runs:
            by_process[lines[0].pid] = by_process.get(lines[0].pid, 0) + 1
        assert max(by_process.values()) <= 2, "each claim's process has at most so many runs"
