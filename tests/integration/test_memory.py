"""Objects that a task's error holds are released when the task has ended, in every kind of process and pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.app import make_app
from tests.integration.memory_tools import grown
from tests.integration.workers import PATIENCE, crew, until


@pytest.mark.timed
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_whose_tasks_end_by_errors_keeps_its_size(kafka: EmbeddedKafka, tmp_path: Path, pool: str) -> None:
    """With all errors kept until the garbage is collected it would be 25 megabytes or more."""
    with crew(kafka, tmp_path, backend="same") as made:
        worker = made.start("steady", "-P", pool, "-c", "1")
        made.ready(worker)
        sizes = grown(made, worker, rounds=40)
    print(f"\n{pool}: grown by", ", ".join(f"{size:.1f} MB" for size in sizes))
    assert max(sizes) < 10


def test_results_that_are_there_when_they_are_asked_for_are_not_kept(broker_url: str) -> None:
    app = make_app(broker_url, broker_url)
    consumer = app.backend.result_consumer
    for number in range(3):
        result = app.tasks["add"].delay(number, 1)
        app.backend.store_result(result.id, number + 1, "SUCCESS")  # as a worker does
        until(lambda result=result: consumer.known(result.id)[1] is not None)
        assert result.get(timeout=PATIENCE) == number + 1
    assert not consumer._arrived
    app.close()
