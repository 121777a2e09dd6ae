"""The number of tasks in each state is exact, whatever the number of tasks, ordering keys and workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.matrix import Case
from tests.integration.workers import Crew, crew

CONF = {"kafka_exec_partitions": {"queue": 4, "state": 2, "control": 2}}


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def made(
    request: pytest.FixtureRequest, kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crew]:
    with crew(kafka, tmp_path_factory.mktemp("matrix"), backend="same", **CONF) as found:
        found.ready(*(found.start(f"w{number}", "-c", "2", "-P", "threads") for number in range(request.param)))
        yield found


@pytest.mark.parametrize(("number", "keys"), [(1, 1), (60, 0), (60, 10), (60, 100)])
def test_each_task_is_in_its_state_and_counted_once(made: Crew, number: int, keys: int) -> None:
    Case(made, number, keys).check()
