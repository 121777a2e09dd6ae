"""Many suspensions with callbacks early, twice, at once and at the instant of the deadline, while workers are killed."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from celery.exceptions import TimeoutError as NoResult

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import SuspensionTimedOut
from tests.integration.kills import CONF, Killing, seed_of
from tests.integration.workers import PATIENCE, Crew, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

TASKS = int(os.environ.get("CHAOS_TASKS", "5000"))

#: The deadlines are so many seconds after the suspension.
SHORTEST, LONGEST = 15.0 + TASKS / 100, 45.0 + TASKS / 25


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Crew]:
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def test_each_suspension_goes_on_once_or_times_out_and_never_both(made: Crew, request: pytest.FixtureRequest) -> None:
    chance = random.Random(seed_of(request))
    kills = Killing(made, workers=3, slots=4, seed=chance.randrange(10**6))
    timeouts = {f"{number}": chance.uniform(SHORTEST, LONGEST) for number in range(TASKS)}
    started = time.monotonic()
    results = {
        name: made.app.tasks["wait"].delay(f"s-{name}", {"timeout": timeout}) for name, timeout in timeouts.items()
    }
    # Each task is called back twice or three times, about when it times out, some of them long before, some never.
    due = sorted(
        (timeout + chance.gauss(0, 3), name)
        for name, timeout in timeouts.items()
        if int(name) % 10
        for timeout in ([timeout, timeout] if int(name) % 3 else [0, timeout, timeout])
    )
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in results}

    def call_back(name: str) -> None:
        outcomes[name][kafka_exec.resume(made.app, f"s-{name}", name, timeout=PATIENCE).outcome] += 1

    with ThreadPoolExecutor(64) as threads:
        last_kill = time.monotonic()
        for at, name in due:
            while (now := time.monotonic()) < started + at:
                time.sleep(min(0.1, started + at - now))
                if now - last_kill > 4:
                    last_kill = now
                    kills.kill_one()
            threads.submit(call_back, name)
    until(lambda: all(each.ready() for each in results.values()), timeout=10 * PATIENCE, what="the end of all")
    ends = {}
    for name, result in results.items():
        try:
            ends[name] = result.get(timeout=PATIENCE) == name
        except SuspensionTimedOut:
            ends[name] = None
        except NoResult:
            ends[name] = False
    ended = made.effects.count()
    answered = [name for name, end in ends.items() if end]
    timed_out = [name for name, end in ends.items() if end is None]
    calls = sum(sum(told.values()) for told in outcomes.values())
    print(f"{kills.times} kills, {len(answered)} answered, {len(timed_out)} timed out, {calls} calls", end=" ")
    assert len(answered) + len(timed_out) == TASKS
    assert [name for name in timed_out if ended[results[name].id]] == [], "timed out, and gone on all the same"
    assert [name for name in answered if not ended[results[name].id]] == []
    assert [name for name, told in outcomes.items() if told["continued"] > 1] == []
    assert [name for name in timed_out if outcomes[name]["continued"] or outcomes[name]["kept"]] == []
    assert [name for name in answered if not outcomes[name].keys() & {"continued", "kept"}] == []
    assert [name for name, told in outcomes.items() if told["sent"]] == [], "a caller was not answered"
    # A run that continues is begun again only if its worker died.
    assert len(made.effects.all()) <= len(answered) + 4 * kills.times
