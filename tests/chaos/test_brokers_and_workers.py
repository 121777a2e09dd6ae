"""Brokers of a cluster die and come back in turns, while workers join and leave: both of what moves partitions at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.judge import judge, judge_lanes
from tests.integration.kills import CONF
from tests.integration.load import Load
from tests.integration.workers import Crew, Worker, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS, NODES, KEYS = 2, 3, 40


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Crew]:
    with EmbeddedKafka(nodes=NODES) as kafka, crew(kafka, tmp_path, **CONF) as found:
        yield found


def test_tasks_run_once_and_in_order_while_leaders_and_owners_change(made: Crew) -> None:
    def join() -> Worker:
        return made.start(f"w{len(made.workers)}", "-c", "2")

    def change() -> None:
        """A worker joins, and the oldest one leaves."""
        workers.append(join())
        workers[-1].wait_for_line(" ready.")
        workers.pop(0).stop()

    workers = [join(), join()]
    made.ready(*workers)
    with Load(made.app, seconds=0.05, keys=KEYS) as load:
        for number in range(ROUNDS * NODES):
            load.wait_for(100)
            made.kafka.kill(number % NODES)
            change()
            load.wait_for(100)
            made.kafka.start(number % NODES)
            change()
        load.wait_for(100)
    made.effects.wait_for(load.confirmed, timeout=300)
    effects = [*made.effects.all("begin"), *made.effects.all()]
    of_keys, of_all = judge_lanes(load.lanes(), effects, {}), judge(load.confirmed, effects, {})
    print(
        f"{len(load.confirmed)} tasks, {ROUNDS * NODES} kills of brokers, {len(made.workers)} workers, "
        f"{len(load.uncertain)} publishes not confirmed, the slowest {load.slowest:.1f} s: {of_keys}, {of_all}"
    )
    assert load.unexpected == []
    assert (of_keys.lost, of_keys.inversions, of_keys.overlaps, of_keys.again) == ([], [], [], [])
    assert (of_all.lost, of_all.again, of_all.overlaps) == ([], [], [])
