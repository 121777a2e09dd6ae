"""A task's way to a worker and back: what another Python or Celery is tried with first."""

from __future__ import annotations

from pathlib import Path

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import PATIENCE, crew


def test_a_task_goes_to_a_worker_and_its_result_comes_back(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, backend="same") as made:
        worker = made.start("one", "-c", "2")
        made.ready(worker)
        add = made.app.tasks["add"]
        soon, later = add.delay(2, 3), add.apply_async((3, 4), countdown=1, ordering_key="one")
        assert (soon.get(timeout=PATIENCE), later.get(timeout=PATIENCE)) == (5, 7)
        worker.stop()
