"""The longer variants of tests/integration/test_faults.py: minutes of outages, kills in a row, a whole backlog drained."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.fault_app import make_app
from tests.integration.fault_tools import Effects, Load, Worker, until, workers
from tests.integration.test_faults import outage, seed, unique_memory

Start = Callable[..., Worker]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects")


@pytest.fixture
def start() -> Iterator[Start]:
    with workers() as starter:
        yield starter


@pytest.fixture
def own_kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as broker:
        yield broker


def test_a_minute_without_a_killed_broker(
    own_kafka: EmbeddedKafka, prefix: str, effects: Effects, start: Start
) -> None:
    outage(own_kafka, f"{own_kafka.url}/{prefix}", effects, start, 60, kill=True)


def test_three_brokers_of_which_one_after_the_other_is_away(prefix: str, effects: Effects, start: Start) -> None:
    with EmbeddedKafka(nodes=3) as kafka:
        url = f"{kafka.url}/{prefix}"
        admin = kafka.admin()

        def all_in_sync() -> bool:
            topics = admin.list_topics(timeout=10).topics.values()
            return all(len(each.isrs) == 3 for topic in topics for each in topic.partitions.values())

        workers = [start(url, effects, name) for name in ("one", "two")]
        for worker in workers:
            worker.wait_until_ready()
        with Load(make_app(url), seconds=0.01) as load:
            for node in range(3):
                load.wait_for(100)
                kafka.stop(node) if node == 1 else kafka.kill(node)
                load.wait_for(100)
                kafka.start(node)
                until(all_in_sync, what="all replicas in sync")
            load.wait_for(100)
        print(f"{len(load.confirmed)} published, the slowest in {load.slowest:.1f} s", end=" ")
        assert (load.uncertain, load.unexpected) == ({}, [])
        effects.wait_for(set(load.confirmed))
        assert {effects.count(what)[task] for task in load.confirmed for what in ("begin", "end")} == {1}
        assert all(worker.is_alive for worker in workers)


def test_a_broker_killed_again_and_again(own_kafka: EmbeddedKafka, prefix: str, effects: Effects, start: Start) -> None:
    url = f"{own_kafka.url}/{prefix}"
    pair = [start(url, effects, name) for name in ("one", "two")]
    for worker in pair:
        worker.wait_until_ready()
    with Load(make_app(url, kafka_exec_publish_timeout=3), seconds=0.01) as load:
        for _ in range(6):
            load.wait_for(50)
            own_kafka.kill()
            time.sleep(random.uniform(0, 3))
            own_kafka.start()
        load.wait_for(50)
    effects.wait_for(set(load.confirmed))
    assert all(worker.is_alive for worker in pair)
    assert not load.unexpected


def test_workers_killed_one_after_the_other(
    own_kafka: EmbeddedKafka, prefix: str, effects: Effects, start: Start
) -> None:
    url = f"{own_kafka.url}/{prefix}"
    conf = {"kafka_exec_session_timeout": 3}
    living = [start(url, effects, f"worker{number}", **conf) for number in range(2)]
    with Load(make_app(url), seconds=0.02) as load:
        for number in range(6):
            living[-1].wait_until_ready()
            load.wait_for(100)
            living.pop(0).kill()
            living.append(start(url, effects, f"worker{number % 3}", **conf))
        load.wait_for(100)
    effects.wait_for(set(load.confirmed), 120)


def test_a_backlog_is_drained_in_bounded_memory(
    own_kafka: EmbeddedKafka, prefix: str, effects: Effects, start: Start
) -> None:
    url = f"{own_kafka.url}/{prefix}"
    app = make_app(url)
    worker = start(url, effects, "drain", "-c", "2", "-l", "WARNING")
    effects.wait_for({app.tasks["work"].delay().id})
    idle = highest = unique_memory(worker.parent)
    worker.kill()
    count = 50_000
    seed(own_kafka, app, f"{prefix}.queue.celery", count, 0)
    worker = start(url, effects, "drain", "-c", "2", "-l", "WARNING")

    def drained() -> bool:
        nonlocal highest
        highest = max(highest, unique_memory(worker.parent))
        return len(effects.count()) >= count

    until(drained, 600)
    print(f"idle {idle:.0f} MB, at most {highest:.0f} MB")
    assert highest - idle < 60
