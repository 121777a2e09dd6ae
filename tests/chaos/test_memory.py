"""A worker's size after ten thousand tasks that ended by errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.memory_tools import ENDS, grown
from tests.integration.workers import crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent", "eventlet"])
def test_ten_thousand_tasks_that_end_by_errors(kafka: EmbeddedKafka, tmp_path: Path, pool: str) -> None:
    with crew(kafka, tmp_path, backend="same") as made:
        # A green pool needs a second slot to begin a task while one ends.
        worker = made.start("steady", "-P", pool, "-c", "2" if pool in ("gevent", "eventlet") else "1")
        made.ready(worker)
        sizes = grown(made, worker, rounds=10_000 // len(ENDS))
    print(f"\n{pool}: grown by", ", ".join(f"{size:.1f} MB" for size in sizes))
    assert max(sizes) < 15
