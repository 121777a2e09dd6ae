"""`celery kafka control-plane`: chords and delayed tasks without a control plane in the workers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import chord

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from tests.integration.suspensions import suspended
from tests.integration.workers import APP, PATIENCE, ROOT, Crew, crew, environment, until


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, "same", kafka_exec_control_plane=False) as found:
        yield found


@contextmanager
def control_plane(made: Crew) -> Iterator[None]:
    """The command beside the block, at whose end it must end cleanly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", APP, "kafka", "control-plane"],
        cwd=ROOT,
        env=environment(made.url, made.folder, **made.env),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "Driving the control plane" in process.stdout.readline()
        yield
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def test_it_fires_what_workers_leave_alone_and_ends_cleanly(made: Crew) -> None:
    made.ready(made.start("worker", "-c", "1"))
    tasks = made.app.tasks
    body = chord((tasks["add"].s(number, 1) for number in range(5)), tasks["total"].s())()
    assert sum(body.parent.get(timeout=PATIENCE)) == 15
    assert not body.ready()
    with control_plane(made):
        assert body.get(timeout=PATIENCE) == 15


def test_it_releases_delayed_tasks_and_needs_no_result_backend(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, kafka_exec_control_plane=False) as found:
        found.ready(found.start("worker", "-c", "1"))
        due = time.time() + 3
        delayed = found.send("work", countdown=3)
        until(lambda: time.time() > due)
        found.effects.wait_for(found.send("work"))
        assert not found.effects.count().keys() & set(delayed)
        with control_plane(found):
            found.effects.wait_for(delayed)
            found.effects.assert_once(delayed)


def test_a_queue_that_is_deleted_just_after_its_use_holds_up_nobody(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    conf = {"kafka_exec_control_plane": False, "kafka_exec_partitions": {"control": 1}}
    with crew(kafka, tmp_path, "same", **conf) as made, control_plane(made):
        made.ready(made.start("worker", "-c", "2"))
        one, two = (made.app.tasks["wait"].delay(name) for name in ("one", "two"))
        suspended(one)
        suspended(two)
        until(lambda: made.backlog() == 0, what="the commit of the ends of the first runs")
        made.workers[-1].stop()
        assert kafka_exec.resume(made.app, "one", 1, timeout=PATIENCE).outcome == "continued"
        with made.app.connection_for_write() as connection:
            connection.default_channel.queue_delete("celery")
        assert kafka_exec.resume(made.app, "two", 2, timeout=PATIENCE).outcome == "continued"
        made.ready(made.start("again", "-c", "2"))
        assert two.get(timeout=PATIENCE) == 2


def test_without_kafka_it_says_what_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "--broker", "memory://", "kafka", "control-plane"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "has no kafka-exec:// result backend" in done.stderr
    assert len(done.stderr.splitlines()) == 1
