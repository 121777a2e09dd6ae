"""A thousand periodic entries on one beat, their times spread or all the same: how late they are, and what it costs."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.message.envelope import decode
from tests.integration.beat_tools import Diary, assert_each_once
from tests.integration.workers import Crew, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ENTRIES = int(os.environ.get("CHAOS_ENTRIES", "1000"))

#: Seconds.
PERIOD = 10.0

#: How often each entry is fired while it is measured.
ROUNDS = 4


@pytest.mark.parametrize("spread", [PERIOD, 0.0], ids=["times spread", "all in the same second"])
def test_a_thousand_entries_are_fired_on_time(kafka: EmbeddedKafka, tmp_path: Path, spread: float) -> None:
    start = time.time()
    schedule = {
        f"e{number}": {
            "task": "work",
            "schedule": PERIOD,
            "catch_up": "all",
            "start": start + spread * number / ENTRIES,
        }
        for number in range(ENTRIES)
    }
    with crew(kafka, tmp_path, beat_schedule=schedule, result_expires=None) as made:
        diary = Diary(made)
        beat = made.start_beat("b")
        diary.until_held(ENTRIES)
        diary.until_fired("e0", 1)
        held = time.time()
        process = psutil.Process(beat.process.pid)
        used = process.cpu_times()

        late = sorted(lateness(made, f"{made.prefix}.queue.celery", held + ROUNDS * PERIOD))
        cpu = sum(process.cpu_times()[:2]) - sum(used[:2])
        seconds = time.time() - held
        memory = process.memory_full_info().uss / 1e6
        beat.stop()
        print(
            f"{ENTRIES} entries of {PERIOD:.0f} s: {len(late)} firings, late p50 {statistics.median(late) * 1000:.0f} ms, "
            f"p99 {late[int(len(late) * 0.99)] * 1000:.0f} ms, at most {late[-1] * 1000:.0f} ms; "
            f"{100 * cpu / seconds:.0f} % of a core, {memory:.0f} MB"
        )
        assert late[0] >= 0.0
        assert_each_once(made, dict.fromkeys(schedule, PERIOD))


def lateness(made: Crew, topic: str, end: float) -> Iterator[float]:
    """The lateness of each task that is published from now on until ``end``: seconds after its slot, by this clock."""
    consumer = Consumer(
        {
            **made.kafka.client_config(),
            "group.id": "lateness",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 5,
        }
    )
    with closing(consumer):
        numbers = consumer.list_topics(topic, 10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_END) for number in numbers])
        consumer.poll(0)
        settled = time.time() + 1.0
        while time.time() < end:
            record = consumer.poll(0.5)
            if record is None or record.error() is not None:
                continue
            slot = decode(record.headers(), record.value()).headers["slot"]
            if slot > settled:
                yield time.time() - slot
