"""The number of tasks in each state is exact also for many tasks, ordering keys and workers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.matrix import Case
from tests.integration.workers import PATIENCE, Crew, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TASKS = int(os.environ.get("CHAOS_TASKS", "10000"))


@pytest.fixture(scope="module", params=[1, 2, 4], ids=["1 worker", "2 workers", "4 workers"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path_factory.mktemp("matrix"), backend="same") as found:
        found.ready(*(found.start(f"w{number}", "-c", "2", "-P", "threads") for number in range(request.param)))
        yield found


@pytest.mark.parametrize("keys", [0, 1, 10, 100])
@pytest.mark.parametrize("number", [1, TASKS // 100, TASKS // 10, TASKS])
def test_each_of_many_tasks_is_in_its_state_and_counted_once(made: Crew, number: int, keys: int) -> None:
    Case(made, number, keys).check(timeout=10 * PATIENCE)
