"""Durable tasks of ten steps whose workers and broker are killed, judged by what their steps have written."""

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
from kafka_exec.broker.errors import BrokerStartFailed
from kafka_exec.errors import ConnectionFailed, NotConfirmed
from tests.integration.kills import CONF, Killing, seed_of
from tests.integration.workers import PATIENCE, Crew, Effect, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TASKS = int(os.environ.get("CHAOS_TASKS", "500"))
CHILDREN, STEPS = 20, 10

#: So many seconds are between two kills, the shortest and the longest time; one of so many is of the broker.
PAUSE, BROKER = (3.0, 15.0), 5


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Crew]:
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def call_back(made: Crew, names: list[str], chance: random.Random) -> None:
    """Resumes each task twice; half of the first calls come before the suspension."""
    chance.shuffle(names)
    for name in names * 2:
        while not is_resumed(made, name):
            time.sleep(1)
        time.sleep(chance.random() * 0.2)


def is_resumed(made: Crew, name: str) -> bool:
    """Resumes a task; False: the broker was away for too long."""
    try:
        kafka_exec.resume(made.app, f"ten-{name}", name, timeout=0.01)
    except (NotConfirmed, ConnectionFailed):
        return False
    return True


def start_again(kafka: EmbeddedKafka) -> None:
    """Starts a broker, which may take several tries on a busy machine."""
    while True:
        try:
            return kafka.start()
        except BrokerStartFailed:
            continue


def test_each_step_is_done_once_but_where_its_worker_died(made: Crew, request: pytest.FixtureRequest) -> None:
    seed = seed_of(request)
    chance = random.Random(seed)
    kills = Killing(made, workers=3, slots=4, seed=seed)
    results = {f"{number}": made.app.tasks["ten"].delay(f"{number}", CHILDREN) for number in range(TASKS)}
    caller = threading.Thread(target=call_back, args=(made, list(results), chance))
    caller.start()
    ids, outages = {each.id for each in results.values()}, 0
    while caller.is_alive() or not ids <= made.effects.count().keys():
        time.sleep(chance.uniform(*PAUSE))
        if chance.randrange(BROKER):
            kills.kill_one()
        else:
            outages += 1
            made.kafka.kill()
            start_again(made.kafka)
    caller.join()
    values = {each.id: each.get(timeout=4 * PATIENCE) for each in results.values()}
    written, begun, kept = outs(made), places(made, "in"), places(made, "kept")
    assert all(len(each) == STEPS for each in values.values())
    wrong = [
        (task, place)
        for task, found in values.items()
        for place, value in enumerate(found)
        if value not in written[task, place]
    ]
    again = {key: runs for key, runs in begun.items() if len(runs) > 1}
    # It died within a step if it was killed before the step had returned.
    unexcused = {
        key: runs
        for key, runs in again.items()
        if any(run.pid not in kills.kills or run.pid in {each.pid for each in kept[key]} for run in runs[:-1])
    }
    print(
        f"{len(values)} tasks, {kills.times} kills, {outages} of the broker, {len(again)} steps begun again, "
        f"without a death {len(unexcused)}",
        end=" ",
    )
    assert not wrong
    assert not unexcused
    assert begun.keys() == {(task, place) for task in values for place in range(STEPS)}


def places(made: Crew, what: str) -> dict[tuple[str, int], list[Effect]]:
    """The begins of the steps' effects, or their ends, by task and place."""
    found = defaultdict(list)
    for effect in made.effects.everything():
        if effect.what.startswith(what):
            found[effect.task, int(effect.what.removeprefix(what))].append(effect)
    return found


def outs(made: Crew) -> dict[tuple[str, int], list[str]]:
    """The values that the steps' effects have written, by task and place."""
    found = defaultdict(list)
    for effect in made.effects.everything():
        if effect.what.startswith("out"):
            task, _, value = effect.task.partition("/")
            found[task, int(effect.what[3:])].append(value)
    return found
