"""A million tasks that have ended behind one that has not: what a new owner does, and how soon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.message import envelope
from kafka_exec.core.queue.progress import Progress
from tests.integration.kills import CONF
from tests.integration.workers import Crew, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FINISHED = 1_000_000


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def seed(made: Crew, topic: str, partition: int, number: int) -> None:
    """Writes tasks into one partition, much faster than by ``delay()``."""
    producer = Producer({**made.kafka.client_config(), "linger.ms": 20})
    body = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
    for n in range(number):
        headers = {"task": "work", "id": f"seeded-{n}", "retries": 0, "lang": "py", "root_id": f"seeded-{n}"}
        message = envelope.Message(body, "application/json", "utf-8", headers, {"correlation_id": f"seeded-{n}"})
        while True:
            try:
                producer.produce(topic, body, message.key, partition, headers=envelope.encode(message))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def test_only_the_unfinished_one_of_a_million_runs_again(made: Crew) -> None:
    gate = made.gate()
    [head] = made.send("hold", str(gate))
    first = made.start("first", "-c", "2")
    made.ready(first)
    made.effects.wait_for([head], "begin")
    topic = f"{made.prefix}.queue.celery"
    reader = Consumer({**made.kafka.client_config(), "group.id": topic})
    numbers = reader.list_topics(topic, 10).topics[topic].partitions
    partition = next(n for n in numbers if reader.get_watermark_offsets(TopicPartition(topic, n), 10)[1])
    first.kill()
    seed(made, topic, partition, FINISHED)
    # As if they had run: a commit says that all but the first have ended.
    progress = Progress(low=0)
    for offset in range(1, FINISHED + 1):
        progress.end(offset)
    admin = made.kafka.admin()
    until(lambda: not _members(admin, topic), what="the end of the dead worker's membership")
    reader.commit(offsets=[TopicPartition(topic, partition, 0, progress.metadata())], asynchronous=False)
    reader.close()

    began = time.time()
    heir = made.start("heir", "-c", "2")
    until(lambda: made.effects.count("begin")[head] == 2, timeout=300)
    restored = time.time() - began
    after = made.send("work", number=200)
    made.effects.wait_for(after, timeout=300)
    read = time.time() - began
    memory = psutil.Process(heir.process.pid).memory_full_info().uss / 1e6
    print(f"the head began {restored:.1f} s after the start, what came behind all others {read:.1f} s; {memory:.0f} MB")
    gate.touch()
    made.effects.wait_for([head])
    until(lambda: made.backlog() == 0, what="a commit of all")
    assert made.effects.count("begin").keys() == {head, *after}


def _members(admin: AdminClient, group: str) -> int:
    return len(admin.describe_consumer_groups([group])[group].result(10).members)
