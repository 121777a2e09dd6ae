"""`celery kafka control-plane`: chords without a control plane in the workers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chord

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import APP, PATIENCE, ROOT, Crew, crew, environment


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, "same", kafka_exec_control_plane=False) as found:
        yield found


def test_it_fires_what_workers_leave_alone_and_ends_cleanly(made: Crew) -> None:
    made.ready(made.start("worker", "-c", "1"))
    tasks = made.app.tasks
    body = chord((tasks["add"].s(number, 1) for number in range(5)), tasks["total"].s())()
    assert sum(body.parent.get(timeout=PATIENCE)) == 15
    assert not body.ready()
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
        assert body.get(timeout=PATIENCE) == 15
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def test_without_a_result_backend_it_says_what_is_missing(made: Crew) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "--broker", made.url, "kafka", "control-plane"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "has no kafka-exec:// result backend" in done.stderr
    assert len(done.stderr.splitlines()) == 1
