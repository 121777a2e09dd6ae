"""Workers that share tasks, with and without ordering keys, are stopped for a while and go on, as laptops and VMs are."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.judge import TOLD, judge, judge_lanes
from tests.integration.kills import CONF, seed_of
from tests.integration.workers import Crew, Worker, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

#: How long workers are stopped, seconds: less than the session, more, and much more than a lease.
PAUSES = (2.0, 5.0, 12.0, 24.0, 40.0)

#: So many tasks, each so long, seconds, that there are some left at the last stop.
KEYS, OF_A_KEY, PLAIN, LONG = 60, 20, 1200, 0.15


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, kafka_exec_partitions={"queue": 2}, **CONF) as found:
        yield found


def send(worker: Worker, what: signal.Signals) -> set[int]:
    """Sends a signal to all processes of a worker. Returns their ids."""
    sent = set()
    for process in worker.processes():
        try:
            process.send_signal(what)
        except psutil.NoSuchProcess:
            continue
        sent.add(process.pid)
    return sent


def test_nothing_begins_that_has_ended_elsewhere(made: Crew, request: pytest.FixtureRequest) -> None:
    chance = random.Random(seed_of(request))
    workers = [made.start(f"w{number}", "-c", str(slots)) for number, slots in enumerate((1, 4, 2))]
    made.ready(*workers[:2], queue=None)
    lanes = [[f"k{key}.{n}" for n in range(OF_A_KEY)] for key in range(KEYS)]
    plain = [f"p{n}" for n in range(PLAIN)]
    with made.app.producer_or_acquire() as producer:
        for n in range(OF_A_KEY):
            for key, lane in enumerate(lanes):
                made.app.tasks["work"].apply_async((LONG,), task_id=lane[n], ordering_key=f"k{key}", producer=producer)
        for task in plain:
            made.app.tasks["work"].apply_async((LONG,), task_id=task, producer=producer)
    wanted = {*plain, *(task for lane in lanes for task in lane)}
    untold: set[str] = set()
    for pause in PAUSES:
        victim = chance.choice(workers)
        stopped, at = send(victim, signal.SIGSTOP), time.time()
        left = len(wanted) - len(made.effects.count())
        time.sleep(pause)  # for so long it is stopped
        before, gone_on = made.effects.count(), time.time()
        send(victim, signal.SIGCONT)
        time.sleep(chance.uniform(0.2, 3.0))  # what it does now is what is looked at
        ends, begins = made.effects.all(), made.effects.all("begin")
        late = [each for each in begins if each.worker == victim.name and each.time > gone_on and before[each.task]]
        untold |= {each.task for each in ends if each.pid in stopped and at - TOLD < each.time <= at}
        print(f"{victim.name} stopped for {pause} s, with {left} tasks left; begun late: {late}")
        assert [each for each in late if each.task not in untold] == [], "not even just after it goes on"
    made.effects.wait_for(wanted, timeout=600)
    effects = [effect for what in ("begin", "end") for effect in made.effects.all(what)]
    of_keys, of_others = judge_lanes(lanes, effects, {}), judge(plain, effects, {})
    print(f"{len(wanted)} tasks, the ends of {len(untold)} perhaps not told: {of_keys}, {of_others}")
    assert (of_keys.lost, of_keys.inversions) == ([], [])
    assert of_others.lost == []
    assert {*of_keys.again, *of_others.again} <= untold
