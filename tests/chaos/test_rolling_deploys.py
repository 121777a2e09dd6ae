"""Version after version of an application, each with a task that the one before did not have, while all are sent tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.judge import judge
from tests.integration.kills import CONF
from tests.integration.workers import Crew, Worker, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

DEPLOYS, WORKERS = 20, 2


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def test_a_new_task_is_lost_in_none_of_twenty_deploys(made: Crew) -> None:
    """Its senders are updated first: until the first worker is, nobody knows it, and until the last one is, not all do."""

    def up(name: str, version: int) -> Worker:
        return made.start(name, "-c", "2", env={"VERSION": str(version)})

    workers = [up(f"w{number}", 0) for number in range(WORKERS)]
    made.ready(*workers)
    tasks: list[str] = []

    def send(name: str, number: int) -> None:
        ids = [f"{name}-{len(tasks) + n}" for n in range(number)]
        for task_id in ids:
            made.app.send_task(name, task_id=task_id)
        tasks.extend(ids)

    for version in range(1, DEPLOYS + 1):
        for number, old in enumerate(workers):
            send(f"new{version - 1}", 5)
            send("work", 10)
            old.stop()
            workers[number] = up(old.name, version)
            workers[number].wait_for_line(" ready.")
    made.effects.wait_for(tasks, timeout=120)
    verdict = judge(tasks, [*made.effects.all("begin"), *made.effects.all()], {})
    print(f"{DEPLOYS} deploys of {WORKERS} workers, {len(tasks)} tasks: {verdict}")
    assert (verdict.lost, verdict.again, verdict.overlaps, verdict.restarts) == ([], [], [], 0)
