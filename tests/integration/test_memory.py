"""What a task's error holds is let go when the task has ended, in whichever process and pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.memory_tools import grown
from tests.integration.workers import crew


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_whose_tasks_end_by_errors_keeps_its_size(kafka: EmbeddedKafka, tmp_path: Path, pool: str) -> None:
    """With all errors kept until the garbage is collected it would be 50 megabytes."""
    with crew(kafka, tmp_path, backend="same") as made:
        worker = made.start("steady", "-P", pool, "-c", "1")
        made.ready(worker)
        sizes = grown(made, worker, rounds=60)
    print(f"\n{pool}: grown by", ", ".join(f"{size:.1f} MB" for size in sizes))
    assert max(sizes) < 10
