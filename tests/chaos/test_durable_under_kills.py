"""Durable tasks of ten steps whose workers are killed, judged by what their steps have written."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from tests.integration.kills import CONF, Killing, seed_of
from tests.integration.workers import PATIENCE, Crew, Effect, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TASKS = int(os.environ.get("CHAOS_TASKS", "200"))
CHILDREN, STEPS = 5, 10

#: The record of a step's value is in Kafka so many seconds after its effect, at this load.
WRITTEN = 2.0


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Crew]:
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def call_back(made: Crew, names: list[str], chance: random.Random) -> None:
    """Resumes each task twice; half of the first calls come before the suspension."""
    chance.shuffle(names)
    for name in names * 2:
        kafka_exec.resume(made.app, f"ten-{name}", name, timeout=0.01)
        time.sleep(chance.random() * 0.2)


def test_each_step_is_done_once_but_where_its_worker_died(made: Crew, request: pytest.FixtureRequest) -> None:
    seed = seed_of(request)
    kills = Killing(made, workers=3, slots=4, seed=seed)
    results = {f"{number}": made.app.tasks["ten"].delay(f"{number}", CHILDREN) for number in range(TASKS)}
    caller = threading.Thread(target=call_back, args=(made, list(results), random.Random(seed)))
    caller.start()
    while caller.is_alive() or not all(each.id in made.effects.count() for each in results.values()):
        time.sleep(3)
        kills.kill_one()
        if kills.times > 60:
            break
    caller.join()
    values = {each.id: each.get(timeout=4 * PATIENCE) for each in results.values()}
    written, begun = outs(made), ins(made)
    assert all(len(each) == STEPS for each in values.values())
    wrong = [
        (task, place)
        for task, found in values.items()
        for place, value in enumerate(found)
        if value not in written[task, place]
    ]
    again = {key: runs for key, runs in begun.items() if len(runs) > 1}
    unexcused = {key: runs for key, runs in again.items() if not all(died(each, kills) for each in runs[:-1])}
    print(
        f"{kills.times} kills, {len(values)} tasks, {len(again)} steps begun again, without a death {len(unexcused)}",
        end=" ",
    )
    assert not wrong
    assert not unexcused
    assert len(begun) == TASKS * STEPS


def ins(made: Crew) -> dict[tuple[str, int], list[Effect]]:
    """The begins of the steps' effects, by task and place."""
    found = defaultdict(list)
    for effect in made.effects.everything():
        if effect.what.startswith("in"):
            found[effect.task, int(effect.what[2:])].append(effect)
    return found


def outs(made: Crew) -> dict[tuple[str, int], list[str]]:
    """The values that the steps' effects have written, by task and place."""
    found = defaultdict(list)
    for effect in made.effects.everything():
        if effect.what.startswith("out"):
            task, _, value = effect.task.partition("/")
            found[task, int(effect.what[3:])].append(value)
    return found


def died(effect: Effect, kills: Killing) -> bool:
    """True if the process that has begun an effect was killed before the value was surely in Kafka."""
    at = kills.kills.get(effect.pid)
    return at is not None and at - effect.time < WRITTEN
