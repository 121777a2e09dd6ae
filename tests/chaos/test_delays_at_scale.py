"""A million tasks that wait in Kafka, and tens of thousands of them due in one second."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from confluent_kafka import Producer

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.control.delay import MARGIN, DelayHeaders, level_for
from kafka_exec.core.message.envelope import Message, encode
from tests.integration.records import read
from tests.integration.workers import Crew, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

WAITING, AT_ONCE = 1_000_000, 50_000
HOUR = 3600.0

#: How far the clocks of a broker and its clients, all of this machine, may be read apart, seconds.
ROUNDED = 0.01


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path) as found:
        yield found


def seed(made: Crew, producer: Producer, times: Iterator[float], name: str) -> None:
    """Writes delayed tasks as a sender does, much faster than by ``apply_async()``."""
    topic = f"{made.prefix}.delay"
    levels = len(made.kafka.admin().list_topics(topic, timeout=10).topics[topic].partitions)
    body = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
    for number, when in enumerate(times):
        eta = datetime.fromtimestamp(when, timezone.utc).isoformat()
        headers = {"task": "work", "id": f"{name}-{number}", "retries": 0, "lang": "py", "eta": eta}
        message = Message(body, "application/json", "utf-8", headers, {"correlation_id": f"{name}-{number}"})
        record = DelayHeaders("due", 0, when).write(encode(message))
        while True:
            try:
                level = level_for(when - time.time(), levels)
                producer.produce(topic, body, message.key, level, headers=list(record))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


def test_a_million_wait_and_fifty_thousand_are_due_in_one_second(made: Crew) -> None:
    """The worker moves them and does not run them: they are for a queue that nobody consumes yet."""
    worker = made.start("mover", "-c", "1", "-Q", "celery")
    made.ready(worker)
    made.effects.wait_for(made.send("work", countdown=3))
    before = worker.memory()
    producer = Producer({**made.kafka.client_config(), "linger.ms": 20})
    chance = random.Random(1)
    began = time.time()
    seed(made, producer, (began + HOUR + chance.random() * 30 * 24 * HOUR for _ in range(WAITING)), "later")
    waiting = worker.memory()
    print(f"\n{WAITING:,} seeded in {time.time() - began:.0f} s; memory {before:.0f} MB before, {waiting:.0f} MB after")
    due = time.time() + 30.0
    seed(made, producer, (due + chance.random() for _ in range(AT_ONCE)), "now")
    seeded = time.time()
    assert seeded < due - MARGIN - 5, "the machine was too slow to seed them before they are due"
    highest = before

    def released() -> int:
        nonlocal highest
        highest = max(highest, worker.memory())
        with made.app.connection_for_read() as connection:
            return int(connection.default_channel.queue_declare("due", passive=True).message_count)

    made.app.amqp.queues.add("due")
    with made.app.connection_for_write() as connection:
        made.app.amqp.queues["due"](connection.default_channel).declare()
    until(lambda: released() >= AT_ONCE, timeout=300, what="the release of what is due")
    records = read(made.kafka, f"{made.prefix}.queue.due", AT_ONCE)
    runs = Counter(record.key() for record in records)
    times = sorted(record.timestamp()[1] / 1000 for record in records)
    rate = len(times) / (times[-1] - times[0])
    print(
        f"{len(times):,} released within {times[-1] - times[0]:.1f} s: {rate:,.0f}/s, the last {times[-1] - due - 1:.1f} s "
        f"after the second in which they were due; memory {highest:.0f} MB at most"
    )
    assert (len(records), len(runs)) == (AT_ONCE, AT_ONCE)
    assert times[0] >= due - MARGIN - 1 - ROUNDED
    assert waiting - before < 50
