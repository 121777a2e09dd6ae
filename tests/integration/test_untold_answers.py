"""The outcome of ``resume()`` is known also if the control plane's owner is killed before it has told it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from tests.integration.suspensions import suspended
from tests.integration.workers import PATIENCE, Crew, Worker, crew, until

CONF = {"kafka_exec_partitions": {"queue": 2, "state": 2, "control": 2}, "kafka_exec_session_timeout": 3}


class Untold(Worker):
    """A worker of the app of :mod:`tests.integration.untold_app`."""

    app = "tests.integration.untold_app:app"


@pytest.fixture
def own(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        found.ready(found.start("one", "-c", "2", kind=Untold), found.start("two", "-c", "2", kind=Untold))
        yield found


@pytest.mark.parametrize(("callbacks", "outcome"), [(1, ("continued", 1, 1)), (2, ("counted", 1, 2))])
def test_the_next_owner_tells_what_came_of_a_callback(own: Crew, callbacks: int, outcome: tuple[str, int, int]) -> None:
    result = own.app.tasks["wait"].delay("untold", {"callbacks": callbacks})
    suspended(result)
    assert kafka_exec.resume(own.app, "untold", 1, "first", timeout=PATIENCE) == outcome
    assert sum(worker.is_alive for worker in own.workers) == 1
    for _ in range(callbacks - 1):
        assert kafka_exec.resume(own.app, "untold", 2, "second", timeout=PATIENCE) == ("continued", 2, 2)
    assert result.get(timeout=PATIENCE) == (1 if callbacks == 1 else {"first": 1, "second": 2})
    until(lambda: own.effects.count()[result.id] == 1, what="the end of its run")
