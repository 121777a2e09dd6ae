"""All ways to give the broker's URL: what runs in a killed worker runs again; delays, keys and heartbeats are on."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.broker_ways import WAYS
from tests.integration.way_workers import check_way


@pytest.mark.parametrize("way", [name for name, way in WAYS.items() if way.is_ours])
def test_what_runs_in_a_killed_worker_runs_again(way: str, kafka: EmbeddedKafka, tmp_path: Path) -> None:
    check_way(way, kafka, tmp_path)
