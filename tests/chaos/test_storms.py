"""Workers that come and go in numbers: what moves from one to the other is neither lost nor run twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.judge import judge
from tests.integration.kills import CONF, Killing, seed_of
from tests.integration.workers import Crew, Worker, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def test_eight_workers_restarted_at_random_for_a_minute(made: Crew, request: pytest.FixtureRequest) -> None:
    killing = Killing(made, workers=8, slots=1, seed=seed_of(request))
    tasks = [each for _ in range(20) for each in made.send("work", number=1000)]
    began = time.time()
    while time.time() - began < 60:
        killing.restart_one()
    made.effects.wait_for(tasks, timeout=900)
    verdict = judge(tasks, [*made.effects.all("begin"), *made.effects.all()], {})
    print(f"{killing.times} restarts in {time.time() - began:.0f} s, {verdict}")
    assert (verdict.lost, verdict.again, verdict.overlaps, verdict.restarts) == ([], [], [], 0)


def test_from_two_workers_to_four_and_to_one(made: Crew) -> None:
    """Tasks that have not begun on a worker that stops begin elsewhere while it waits for those that it runs."""

    def up(name: str) -> Worker:
        worker = made.start(name, "-c", "2")
        made.ready(worker)
        return worker

    workers = [up("w0"), up("w1")]
    tasks = [made.send("work", 1.0 + 19.0 * (n % 20 == 0))[0] for n in range(120)]
    until(lambda: len(made.effects.count()) > 4)
    workers += [up("w2"), up("w3")]
    until(lambda: len(made.effects.count()) > 20)
    for worker in workers[:3]:
        begun = len(made.effects.count("begin"))
        stopped = time.time()
        worker.terminate()
        # Of those that were waiting at it, one begins as soon as another worker has a slot.
        until(lambda begun=begun: len(made.effects.count("begin")) >= begun + 4, timeout=60)
        print(f"four more had begun {time.time() - stopped:.1f} s after a stop")
    for worker in workers[:3]:
        assert worker.wait(120) == 0
    made.effects.wait_for(tasks, timeout=600)
    verdict = judge(tasks, [*made.effects.all("begin"), *made.effects.all()], {})
    assert (verdict.lost, verdict.again, verdict.overlaps, verdict.restarts) == ([], [], [], 0)
