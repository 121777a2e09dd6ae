"""`python -m kafka_exec.health`: it tells a worker that stands still, and not one whose broker is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.health import MAX_AGE, VARIABLE, NodeHealth, exists, judge, read
from tests.integration.workers import ROOT, Crew, crew, until

#: How long a worker that stands still may look alive, seconds: the default, which the probe's users have.
TOLD_WITHIN = MAX_AGE

#: A probe looks as often, seconds, and takes a while itself on a machine that is busy.
_SLACK = 2.0


@pytest.fixture
def made(fragile: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(fragile, tmp_path) as found:
        yield found


def path_of(made: Crew) -> str:
    return str(made.folder / "health")


def health(made: Crew) -> NodeHealth:
    """The health by the probe's own functions."""
    return judge(read(path_of(made)), exists, now=time.monotonic())[0]


def probe(made: Crew, *options: str) -> tuple[int, str]:
    """The status and the line of the probe."""
    done = subprocess.run(
        [sys.executable, "-m", "kafka_exec.health", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: path_of(made)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timed
def test_it_tells_a_worker_that_stands_still_and_not_one_whose_broker_is_away(made: Crew) -> None:
    assert probe(made) == (0, "absent: no node has begun\n")
    assert probe(made, "--ready")[0] == 1
    worker = made.start("w", "-c", "1", env={VARIABLE: path_of(made)})
    beat = made.start_beat("b", env={VARIABLE: path_of(made)})
    until(lambda: len(read(path_of(made))) == 2 and health(made) is NodeHealth.READY, what="both are ready")
    for chosen in ([], ["--worker"], ["--worker", "w@test"], ["--beat"]):
        assert probe(made, *chosen, "--ready")[0] == 0

    worker.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: health(made) is NodeHealth.DEAD, what="the worker is told")
    assert time.monotonic() - stopped < TOLD_WITHIN + _SLACK
    status, said = probe(made, "--worker", "w@test")
    assert (status, said.startswith("dead: w@test has stood still")) == (1, True)
    assert probe(made, "--beat", "--ready")[0] == 0
    worker.process.send_signal(signal.SIGCONT)
    until(lambda: health(made) is NodeHealth.READY, what="the worker goes on")

    made.kafka.stop()
    seen = set[NodeHealth]()

    def is_long_away() -> bool:
        seen.add(health(made))
        return all((each.heard or 0.0) < time.monotonic() - TOLD_WITHIN - _SLACK for each in read(path_of(made)))

    until(is_long_away, what="nobody has heard from Kafka for longer than one that stands still looks alive")
    assert seen == {NodeHealth.READY, NodeHealth.NOT_READY}
    assert (probe(made)[0], probe(made, "--ready")[0]) == (0, 1)
    made.kafka.start()
    until(lambda: health(made) is NodeHealth.READY, what="they hear from Kafka again")

    beat.stop()
    worker.stop()
    assert [path.name for path in made.folder.iterdir() if path.name.startswith("health")] == []
