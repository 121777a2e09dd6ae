"""Thousands of tasks while workers are killed, restarted and paused; judged by what the tasks' bodies have written."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.judge import judge
from tests.integration.kills import CONF, Killing, seed_of
from tests.integration.test_worker_pools import children_are_replaced
from tests.integration.workers import Crew, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

WORKERS, SLOTS = 3, 2


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def mixed(made: Crew, number: int, longest: float, seed: int) -> list[str]:
    """Sends tasks of mixed lengths, most of them short."""
    chance = random.Random(seed)
    return [made.send("work", longest * chance.random() ** 4)[0] for _ in range(number)]


def drained(made: Crew, tasks: list[str]) -> bool:
    return made.effects.count().keys() >= set(tasks)


def test_workers_killed_every_four_seconds(made: Crew, request: pytest.FixtureRequest) -> None:
    seed = seed_of(request)
    killing = Killing(made, WORKERS, SLOTS, seed)
    tasks = mixed(made, 3000, 1.0, seed)
    while not drained(made, tasks):
        time.sleep(4)
        if not drained(made, tasks):
            killing.kill_one()
    verdict = judge(tasks, [*made.effects.all("begin"), *made.effects.all()], killing.kills)
    print(f"{killing.times} kills, {verdict.restarts} runs begun again, {verdict}")
    assert (verdict.lost, verdict.again, verdict.overlaps) == ([], [], [])
    assert verdict.restarts <= SLOTS * killing.times


def test_workers_restarted_one_after_the_other(made: Crew, request: pytest.FixtureRequest) -> None:
    seed = seed_of(request)
    killing = Killing(made, WORKERS, SLOTS, seed)
    tasks = mixed(made, 600, 10.0, seed)
    for _ in range(10):
        killing.restart_one()
    made.effects.wait_for(tasks, timeout=600)
    verdict = judge(tasks, [*made.effects.all("begin"), *made.effects.all()], {})
    print(f"{killing.times} restarts, {verdict}")
    assert (verdict.lost, verdict.again, verdict.overlaps, verdict.restarts) == ([], [], [], 0)


def test_a_worker_paused_for_half_a_minute(made: Crew, request: pytest.FixtureRequest) -> None:
    seed = seed_of(request)
    paused = made.start("paused", "-c", str(SLOTS))
    made.ready(paused)
    tasks = mixed(made, 500, 2.0, seed)
    until(lambda: len(made.effects.count()) > 20)
    os.killpg(paused.process.pid, signal.SIGSTOP)
    stopped = time.time()
    other = made.start("other", "-c", str(SLOTS))
    other.wait_for_line(" ready.")
    until(lambda: len(made.effects.count()) > 100, timeout=120)
    time.sleep(max(0.0, stopped + 30 - time.time()))
    os.killpg(paused.process.pid, signal.SIGCONT)
    made.effects.wait_for(tasks, timeout=600)
    begun = made.effects.count("begin")
    twice = [task for task in tasks if begun[task] > 1]
    print(f"{len(twice)} tasks begun twice: those that the paused worker was running, {SLOTS} at most")
    assert len(twice) <= SLOTS


def test_five_hundred_children_are_replaced(made: Crew) -> None:
    children_are_replaced(made, 500)
