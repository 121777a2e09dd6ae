"""Thousands of tasks of many ordering keys, whose heads fail, are retried and suspended, while workers come and go."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from tests.integration.judge import judge_lanes
from tests.integration.kills import CONF, Killing, seed_of
from tests.integration.matrix import HOUR
from tests.integration.workers import Crew, Effects, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WORKERS, SLOTS = 4, 2
KEYS, TASKS = int(os.environ.get("CHAOS_KEYS", "200")), 50

#: A worker is killed so often, seconds. After so many kills all are restarted in turn, and the first time one more joins.
EVERY, KILLS = 4.0, 5

#: Of each key so many of ten tasks are retried twice, one fails, and one is suspended until its callback or deadline.
RETRIED, FAILING, SUSPENDED = (0, 5), 3, 7

#: The deadline of a suspension, seconds; one of so many has no callback.
DEADLINE, SILENT = 10.0, 5

#: Latencies are taken in so many rounds of so many seconds each, of tasks with a pause between them.
ROUNDS, ROUND, PAUSE = 5, 4.0, 0.02

#: So many keys wait, with so many tasks behind the head of each.
BLOCKED, BEHIND = 100, 20


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def send(made: Crew, lanes: list[list[str]]) -> None:
    """Sends the tasks of all keys, those of each in their order."""
    with made.app.producer_or_acquire() as producer:
        for n in range(TASKS):
            for key, lane in enumerate(lanes):
                name, args, kwargs = "stumble", (2 if n % 10 in RETRIED else 0, 0.05), {"fails": n % 10 == FAILING}
                if n % 10 == SUSPENDED:
                    name, args, kwargs = "pausing", (lane[n], DEADLINE), {}
                made.app.tasks[name].apply_async(
                    args, kwargs, task_id=lane[n], ordering_key=f"k{key}", producer=producer
                )


def call_back(made: Crew, stopping: threading.Event) -> None:
    """Resumes what is suspended, all but a few."""
    effects = Effects(made.effects.path)  # two threads cannot read with one object
    told: set[str] = set()
    while not stopping.wait(0.2):
        for task in effects.count("pause").keys() - told:
            told.add(task)
            if len(told) % SILENT:
                kafka_exec.resume(made.app, task, task, timeout=0.01)


def test_keys_stay_in_order(made: Crew, request: pytest.FixtureRequest) -> None:
    lanes = [[f"k{key}.{n}" for n in range(TASKS)] for key in range(KEYS)]
    send(made, lanes)
    killing = Killing(made, WORKERS, SLOTS, seed_of(request))
    stopping = threading.Event()
    calling = threading.Thread(target=call_back, args=(made, stopping))
    calling.start()
    wanted = {task for lane in lanes for task in lane}
    began, faults = time.time(), 0
    while not wanted <= made.effects.count().keys():
        time.sleep(EVERY)
        assert time.time() - began < 1500, f"{len(wanted - made.effects.count().keys())} tasks have not ended"
        faults += 1
        if faults % (KILLS + 1):
            killing.kill_one()
            continue
        killing.restart_all()
        if faults == KILLS + 1:
            killing.add_one()
    stopping.set()
    calling.join()
    effects = [effect for what in ("begin", "retry", "pause", "end") for effect in made.effects.all(what)]
    verdict = judge_lanes(lanes, effects, killing.kills)
    paused = len(made.effects.count("pause"))
    print(
        f"{len(wanted)} tasks of {KEYS} keys, {paused} suspended, in {time.time() - began:.0f} s, "
        f"{killing.times} kills and restarts: {verdict}"
    )
    assert (verdict.lost, verdict.inversions, verdict.overlaps, verdict.again) == ([], [], [], [])
    assert paused == KEYS * TASKS // 10


def test_other_keys_are_as_fast_while_keys_wait(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """Two crews in turn, in one of which keys wait behind a retry or a suspension of their heads."""
    with ExitStack() as stack:
        free, blocked = (
            stack.enter_context(crew(kafka, tmp_path / name, backend="same")) for name in ("free", "blocked")
        )
        for made in (free, blocked):
            made.folder.mkdir()
            made.ready(*(made.start(f"w{number}", "-c", str(SLOTS)) for number in range(2)))
        waiting = block(blocked)
        found: dict[Crew, list[float]] = {free: [], blocked: []}
        for _ in range(ROUNDS):
            for made, taken in found.items():
                taken += latencies(made)
        assert blocked.effects.count("begin").keys().isdisjoint(waiting)
    medians = {made: 1000 * statistics.median(taken) for made, taken in found.items()}
    print(
        f"delay() to begin, p50 of {len(found[free])}: {medians[free]:.1f} ms, "
        f"{medians[blocked]:.1f} ms while {BLOCKED} keys of {BEHIND + 1} tasks wait"
    )
    assert medians[blocked] < 1.5 * medians[free]


def block(made: Crew) -> list[str]:
    """Blocks keys; the tasks that wait behind their heads."""
    heads, waiting = [], []
    for number in range(BLOCKED):
        key = f"blocked{number}"
        heads += (
            made.send("stumble", 1, HOUR, ordering_key=key)
            if number % 2
            else made.send("pausing", key, HOUR, ordering_key=key)
        )
        waiting += made.send("work", number=BEHIND, ordering_key=key)
    until(lambda: {*made.effects.count("retry"), *made.effects.count("pause")} >= set(heads), what="heads that wait")
    return waiting


def latencies(made: Crew) -> list[float]:
    """The times from ``delay()`` to the begin of tasks of other keys, seconds."""
    sent: dict[str, float] = {}
    end = time.monotonic() + ROUND
    while time.monotonic() < end:
        at = time.time()
        [task] = made.send("work", ordering_key=f"free{len(sent) % BLOCKED}")
        sent[task] = at
        time.sleep(PAUSE)
    made.effects.wait_for(sent)
    return [effect.time - sent[effect.task] for effect in made.effects.all("begin") if effect.task in sent]
