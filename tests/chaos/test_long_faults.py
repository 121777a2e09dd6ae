"""The longer variants of tests/integration/test_faults.py: minutes of outages, kills in a row, a whole backlog drained."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.app import make_app
from tests.integration.load import Load
from tests.integration.test_faults import CONF, outage, seed
from tests.integration.workers import Crew, Worker, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Crew]:
    """A crew with a broker of its own."""
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path, **CONF) as found:
        yield found


def pair(made: Crew) -> list[Worker]:
    """Two workers that are ready."""
    found = [made.start(name, "-c", "2") for name in ("one", "two")]
    made.ready(*found)
    return found


def test_a_minute_without_a_killed_broker(made: Crew) -> None:
    outage(made, 60, kill=True)


def test_three_brokers_of_which_one_after_the_other_is_away(tmp_path: Path) -> None:
    with EmbeddedKafka(nodes=3) as kafka, crew(kafka, tmp_path, **CONF) as made:
        admin = kafka.admin()

        def all_in_sync() -> bool:
            topics = admin.list_topics(timeout=10).topics.values()
            return all(len(each.isrs) == 3 for topic in topics for each in topic.partitions.values())

        workers = pair(made)
        with Load(made.app, seconds=0.01) as load:
            for node in range(3):
                load.wait_for(100)
                kafka.stop(node) if node == 1 else kafka.kill(node)
                load.wait_for(100)
                kafka.start(node)
                until(all_in_sync, what="all replicas in sync")
            load.wait_for(100)
        print(f"{len(load.confirmed)} published, the slowest in {load.slowest:.1f} s", end=" ")
        assert (load.uncertain, load.unexpected) == ({}, [])
        made.effects.wait_for(load.confirmed)
        for what in ("begin", "end"):
            made.effects.assert_once(load.confirmed, what)
        assert all(worker.is_alive for worker in workers)


def test_a_broker_killed_again_and_again(made: Crew) -> None:
    workers = pair(made)
    with Load(make_app(made.url, kafka_exec_publish_timeout=3, **CONF), seconds=0.01) as load:
        for _ in range(6):
            load.wait_for(50)
            made.kafka.kill()
            time.sleep(random.uniform(0, 3))
            made.kafka.start()
        load.wait_for(50)
    made.effects.wait_for(load.confirmed)
    assert all(worker.is_alive for worker in workers)
    assert not load.unexpected


def test_workers_killed_one_after_the_other(made: Crew) -> None:
    def start(number: int) -> Worker:
        return made.start(f"worker{number}", "-c", "2", kafka_exec_session_timeout=3)

    living = [start(number) for number in range(2)]
    with Load(made.app, seconds=0.02) as load:
        for number in range(6):
            living[-1].wait_for_line(" ready.")
            load.wait_for(100)
            living.pop(0).kill()
            living.append(start(number % 3))
        load.wait_for(100)
    made.effects.wait_for(load.confirmed, timeout=120)


def test_a_backlog_is_drained_in_bounded_memory(made: Crew) -> None:
    worker = made.start("drain", "-c", "2", "-l", "WARNING")
    made.effects.wait_for(made.send("work"))
    idle = highest = worker.memory()
    worker.kill()
    count = 50_000
    seed(made, count, 0)
    worker = made.start("drain", "-c", "2", "-l", "WARNING")

    def drained() -> bool:
        nonlocal highest
        highest = max(highest, worker.memory())
        return len(made.effects.count()) >= count

    until(drained, 600)
    print(f"idle {idle:.0f} MB, at most {highest:.0f} MB")
    assert highest - idle < 60
