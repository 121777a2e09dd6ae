"""docker/compose.yaml without Docker, under load: its workers from one to three and back to one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from kafka_exec.broker import EmbeddedKafka
from tests.integration.compose_services import OURS, Service, service
from tests.integration.workers import ROOT, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: A task takes up to so many seconds, and so many are sent: more than one worker of two slots does in a minute.
TASK, NUMBER = 1.0, 400

#: A worker begins its first task within so many seconds from the start of its process.
FIRST_TASK = 10.0


def celery_kafka(url: str, *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines of a command, which must end well."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "celery_app", "kafka", *arguments, "--json"],
        cwd=ROOT,
        env={**os.environ, "EXAMPLE_BROKER_URL": url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_workers_are_added_and_removed_under_load_and_no_task_begins_twice(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path
) -> None:
    url = f"{kafka.url}/{prefix}"
    app = Celery(broker=url, backend=url, set_as_current=False)
    with ExitStack() as stack:

        def start(name: str, host: str = "") -> Service:
            return stack.enter_context(service(name, url, tmp_path, host))

        def healthy(*services: Service) -> None:
            for each in services:
                until(lambda each=each: each.is_healthy, what=f"{each.name} to be healthy")

        healthy(start("worker", "one"), *(start(name) for name in OURS if name != "worker"))
        sent = [app.send_task("celery_app.tasks.nap", (TASK, 0.0), queue="celery_app") for _ in range(NUMBER)]
        sent[0].get(timeout=60)
        began = time.time()
        added = [start("worker", host) for host in ("two", "three")]
        healthy(*added)
        until(lambda: sum(each.ready() for each in sent) > NUMBER // 2, what="half of the tasks")
        for each in added:
            each.end()
        for each in sent:
            each.get(timeout=120)

    found = celery_kafka(url, "executions", "--limit", str(2 * NUMBER))
    assert {each["state"] for each in found} == {"DONE"}
    assert len(found) == NUMBER
    first = {
        host: min(each["started"] for each in found if each["worker"] == f"celery@{host}") - began
        for host in ("two", "three")
    }
    print(f"first tasks of the added workers after {first} s", end=" ")
    assert max(first.values()) < FIRST_TASK
    partitions = celery_kafka(url, "audit")
    assert sum(each["ended"] for each in partitions) == NUMBER
    assert [each for each in partitions if each["repeated"] or each["lost_runs"] or each["findings"]] == []
