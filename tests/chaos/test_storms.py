"""Workers that come and go in numbers: what moves from one to the other is neither lost nor run twice."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.kafka.log.history import history
from tests.integration.judge import judge
from tests.integration.kills import CONF, Killing, seed_of
from tests.integration.workers import Crew, Worker, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TASKS = int(os.environ.get("CHAOS_TASKS", "100000"))


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


def test_one_worker_stays_while_ten_are_killed_or_restarted(made: Crew, request: pytest.FixtureRequest) -> None:
    chance = random.Random(seed_of(request))
    stays, *others = (made.start(f"w{number}", "-P", "threads", "-c", "2") for number in range(11))
    made.ready(stays, *others)
    due = [time.monotonic() + chance.uniform(2, 30) for _ in others]
    tasks, times = list[str](), 0
    for _ in range(TASKS // 500):
        tasks += made.send("work", number=500)
        times += _restart(made, others, due, chance)
    wanted = set(tasks)
    while not wanted <= made.effects.count().keys():
        times += _restart(made, others, due, chance)
        time.sleep(0.1)
    cluster, topic = made.app.backend.space.cluster, made.app.backend.space.topics.state
    until(lambda: _states(made) == {State.DONE: len(tasks)}, timeout=300, what="DONE of all, and nothing else")
    ends = Counter[str]()
    for partition in range(cluster.topics.partitions(topic) or 0):
        for batch in history(cluster, topic, partition, cluster.log.ends(topic, [partition])[partition]):
            found = [StateRecord.decode(record.value()) for record in batch]
            ends.update(each.id for each in found if each.state is State.DONE)
    print(f"{len(tasks)} tasks, {times} restarts", end=" ")
    assert stays.is_alive
    assert {task: number for task, number in ends.items() if number != 1} == {}


def _restart(made: Crew, workers: list[Worker], due: list[float], chance: random.Random) -> int:
    """Kills those workers whose time has come, or ends them warmly, and starts others. Returns their number."""
    now = time.monotonic()
    late = [number for number, at in enumerate(due) if at <= now]
    for number in late:
        worker = workers[number]
        if chance.random() < 0.5 or " ready." not in worker.output:  # it has its signal handlers only then
            worker.kill()
        else:
            worker.stop()
        workers[number] = made.start(worker.name, "-P", "threads", "-c", "2")
        due[number] = time.monotonic() + chance.uniform(2, 30)
    return len(late)


def _states(made: Crew) -> dict[State, int]:
    return dict(Counter(each.state for each in made.app.backend.reader.scan()))


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
