"""A million stored states: what a command that lists them costs, for all of them and for those of the last hour."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil
import pytest
from confluent_kafka import Producer

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.topology import state_topic
from kafka_exec.core.results.state_record import State, StateRecord
from kafka_exec.kafka.publish.partitioner import partition_of
from tests.integration.workers import ROOT, Crew, crew, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NUMBER = 1_000_000

#: The time over which they have ended, seconds.
SPAN = 86_400

#: Each task of so many has failed.
FAILED = 100


class Listed(NamedTuple):
    """What a command has printed, how long it took, in seconds, and the most memory that it had, in MB."""

    lines: list[str]
    seconds: float
    memory: float


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(kafka, tmp_path_factory.mktemp("states"), backend="same") as found:
        seed(found)
        yield found


def seed(made: Crew) -> None:
    """Writes the states of tasks that have ended one after the other within the last day, at the times of their ends."""
    space = made.app.backend.space
    topic = state_topic(space.settings, space.topics)
    space.cluster.topics.ensure(topic)
    producer = Producer({**made.kafka.client_config(), "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    first = time.time() - SPAN
    for n in range(NUMBER):
        task, end = f"seed-{n}", first + SPAN * n / NUMBER
        state, status = (State.FAILED, "FAILURE") if n % FAILED == 0 else (State.DONE, "SUCCESS")
        record = StateRecord(
            task, state, status, name="shop.pay", queue="celery", started=end - 1, finished=end, result=n
        )
        partition = partition_of(task, topic.partitions)
        while True:
            try:
                producer.produce(topic.name, record.encode(), task, partition, timestamp=int(end * 1000))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def executions(made: Crew, *options: str) -> Listed:
    """Runs the command, and measures the process."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tests.integration.app:app", "kafka", "executions", "--json", *options],
        cwd=ROOT,
        env=environment(made.url, made.folder, made.conf, **made.env),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    watched, most = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            most = max(most, watched.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(0.02)
    lines = process.stdout.read().splitlines()
    assert process.wait(30) == 0
    return Listed(lines, time.monotonic() - began, most / 1e6)


@pytest.mark.parametrize(
    ("options", "number", "seconds"),
    [
        (["--since", "1h", "--state", "FAILED", "--limit", "20"], 20, 2),
        (["--since", "1h", "--count", "state"], 2, 4),
        (["--state", "FAILED", "--limit", "20"], 20, 20),
    ],
    ids=lambda found: " ".join(found) if isinstance(found, list) else None,
)
def test_a_million_states_are_listed_in_little_time_and_memory(
    made: Crew, options: list[str], number: int, seconds: float
) -> None:
    found = executions(made, *options)
    print(f"{found.seconds:.2f} s, {found.memory:.0f} MB")
    assert len([json.loads(line) for line in found.lines]) == number
    assert found.seconds < seconds
    assert found.memory < 200
