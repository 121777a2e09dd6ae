"""Brokers that die, are away for a minute, or are one of three, and all workers killed at once, while tasks run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.judge import judge
from tests.integration.kills import CONF
from tests.integration.workers import Crew, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SLOTS = 2


@contextmanager
def made_with(nodes: int, tmp_path: Path) -> Iterator[Crew]:
    with EmbeddedKafka(nodes=nodes) as kafka, crew(kafka, tmp_path, backend="same", **CONF) as made:
        yield made


def start(made: Crew, workers: int) -> None:
    made.ready(*(made.start(f"w{number}", "-c", str(SLOTS)) for number in range(workers)))


def judged(made: Crew, tasks: list[str], kills: dict[int, float], timeout: float = 300) -> int:
    """Waits for the ends of tasks; how many runs were begun again. None is lost, and none that had ended runs again."""
    made.effects.wait_for(tasks, timeout=timeout)
    verdict = judge(tasks, [*made.effects.all("begin"), *made.effects.all()], kills)
    assert (verdict.lost, verdict.again, verdict.overlaps) == ([], [], [])
    return verdict.restarts


def test_a_minute_without_the_broker_declares_nobody_lost(tmp_path: Path) -> None:
    with made_with(1, tmp_path) as made:
        start(made, 3)
        tasks = [*made.send("work", 75, number=3), *made.send("work", 0.2, number=300)]
        until(lambda: len(made.effects.count()) > 50)
        made.kafka.kill()
        time.sleep(60)
        made.kafka.start()
        back = time.time()
        after = made.send("work", number=20)
        until(lambda: any(effect.time > back for effect in made.effects.all("begin")), what="a task that begins")
        again = min(effect.time for effect in made.effects.all("begin") if effect.time > back)
        print(f"{again - back:.1f} s after the broker was back a task began")
        assert judged(made, [*tasks, *after], {}) == 0


def test_a_broker_killed_again_and_again_while_tasks_run(tmp_path: Path) -> None:
    with made_with(1, tmp_path) as made:
        start(made, 3)
        tasks = made.send("work", 0.3, number=600)
        for _ in range(6):
            ended = len(made.effects.count())
            until(lambda ended=ended: len(made.effects.count()) > ended + 30, timeout=120)
            made.kafka.kill()
            made.kafka.start()
        assert judged(made, tasks, {}) == 0


def test_each_of_three_brokers_killed_in_turn(tmp_path: Path) -> None:
    with made_with(3, tmp_path) as made:
        start(made, 2)
        tasks: list[str] = []
        for node in range(3):
            ended = len(made.effects.count())
            tasks += made.send("work", 0.2, number=300)
            until(lambda ended=ended: len(made.effects.count()) > ended + 30, timeout=120)
            made.kafka.kill(node)
            more = made.send("work", 0.2, number=60)
            made.effects.wait_for(more, timeout=300)
            made.kafka.start(node)
            tasks += more
        assert judged(made, tasks, {}) == 0


def test_all_workers_killed_and_started_cold(tmp_path: Path) -> None:
    with made_with(1, tmp_path) as made:
        start(made, 3)
        keyed = [made.send("work", 0.05, ordering_key=f"k{n % 10}")[0] for n in range(300)]
        tasks = [*keyed, *made.send("work", 0.3, number=600)]
        kills: dict[int, float] = {}
        restarts = 0
        for fall in range(3):
            until(lambda fall=fall: len(made.effects.count()) > 150 * (fall + 1), timeout=120)
            for worker in made.workers:
                if worker.process.poll() is None:
                    kills.update({process.pid: time.time() for process in worker.processes()})
                    worker.kill()
            restarts += 3 * SLOTS
            start(made, 3)
        again = judged(made, tasks, kills)
        print(f"{again} runs begun again, of {restarts} that were killed at most")
        assert again <= restarts
