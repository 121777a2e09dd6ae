"""The example's naps, which fail by chance, for a minute of kills: each succeeds, and the audit finds nothing."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from celery_app import tasks
from celery_app.app import app
from celery_app.workers import Workers
from tests.integration.workers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 60.0

#: A worker is killed so often, seconds, and so many tasks are sent in a second.
EVERY, RATE = 6.0, 10


def test_naps_that_fail_by_chance_succeed_while_workers_are_killed(broker_url: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED", time.time()))
    print(f"CHAOS_SEED={seed}", end=" ")
    chance = random.Random(seed)
    app.conf.broker_url = app.conf.result_backend = broker_url
    with Workers(3, 2, broker_url, tmp_path) as workers:
        workers.wait_until_ready()
        begun, sent, kills = time.monotonic(), [], 0
        while (passed := time.monotonic() - begun) < SECONDS:
            sent.append(tasks.nap.delay(0.3, 0.4))
            if passed > (kills + 1) * EVERY:
                workers.crash(chance.choice(workers.nodes))
                kills += 1
            time.sleep(1 / RATE)
        for each in sent:
            each.get(timeout=120)
        workers.wait_until_ready()
        workers.stop()
    print(f"{len(sent)} naps, {kills} kills", end=" ")
    command = [sys.executable, "-m", "celery", "-A", "celery_app", "kafka", "audit", "--json"]
    environment = {**os.environ, "EXAMPLE_BROKER_URL": broker_url}
    audit = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    partitions = list(map(json.loads, audit.stdout.splitlines()))
    assert sum(each["sent"] for each in partitions) == sum(each["ended"] for each in partitions) >= len(sent)
    assert not any(each["findings"] for each in partitions)
