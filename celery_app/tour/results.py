"""Stops about results: chords, pushed results, and what another program reads."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

from celery import chord
from confluent_kafka import Consumer, TopicPartition

from celery_app import corpus, diary
from celery_app.app import app
from celery_app.packages import stay
from celery_app.tasks import add, count, merge
from celery_app.tour.guide import PATIENCE, Elsewhere, Seen, Steps, Stop, Tour


def chords(tour: Tour) -> Steps:
    """A task for each batch of files, and one that adds their counts up."""
    batches = tour.files.batches()
    parts = []

    def on_part(_task_id: str, part: corpus.Counts) -> None:
        parts.append(part)
        if len(parts) * 2 // len(batches) > (len(parts) - 1) * 2 // len(batches):
            tour.say(f"  counted {len(parts)} of {len(batches)} batches of files")

    started = time.perf_counter()
    merging = chord([count.s(str(tour.files.root), batch) for batch in batches], merge.s())()
    tour.sent[count.name] += len(batches)
    tour.result(merging.parent, callback=on_part)
    tour.counted = tour.result(merging)
    tour.sent[merge.name] += 1
    totals = tour.counted["totals"]
    yield Seen(
        f"{totals['files']:,} files were counted by {len(batches)} tasks, and a chord's body added the counts up",
        f"{totals['lines']:,} lines, {totals['words']:,} words, in {time.perf_counter() - started:.1f} s",
        f"one body: record {tour.place(merging.id)}",
    )


def results(tour: Tour) -> Steps:
    """A result is waited for, and is then asked for by another process."""
    sent = stay.delay(0.2)
    node = tour.result(sent)
    told = time.time()
    [end] = diary.read("end", sent.id)
    found = tour.api("executions", sent.id)
    tour.require(found["state"] == "DONE" and found["worker"] == node, f"another process finds {found}")
    yield Seen(
        "a result was waited for without polling, and asked for by another process",
        f"get() returned {1000 * (told - end.at):.0f} ms after the task had ended; the other process found the same",
        f"{found['state']} on {found['worker']}, queue {found['queue']}",
    )


def other_programs(tour: Tour) -> Steps:
    """A plain Kafka client reads the states, which are JSON."""
    sent = add.delay(20, 22)
    tour.sent[add.name] += 1
    tour.result(sent)
    scheme, _, rest = str(app.conf.broker_url).partition("://")
    hosts, _, prefix = rest.partition("/")
    if scheme != "kafka-exec" or "@" in hosts or "?" in prefix:
        yield Seen("nothing, for this Kafka wants a user", "docs/results.md has the program", "not run")
        return
    consumer = Consumer({"bootstrap.servers": hosts, "group.id": "the tour", "enable.auto.commit": False})
    try:
        records = states_of(consumer, f"{prefix or 'celery'}.state")
    finally:
        consumer.close()
    [(place, value)] = [each for each in records if each[1]["id"] == sent.id and each[1]["state"] == "DONE"]
    tour.require(value["result"] == 42, f"the state record says {value}")
    kinds = Counter(value["state"] for _, value in records)
    yield Seen(
        "a Kafka client that knows nothing of Celery read the topic of states",
        f"{len(records)} JSON objects: {', '.join(f'{number} {state}' for state, number in sorted(kinds.items()))}",
        f"record {place}: {json.dumps({key: value[key] for key in ('name', 'state', 'result')})}",
    )


def states_of(consumer: Consumer, topic: str) -> list[tuple[str, dict[str, Any]]]:
    """All records of a topic with a value, each with its place."""
    partitions = consumer.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
    ends = {each: consumer.get_watermark_offsets(TopicPartition(topic, each), PATIENCE)[1] for each in partitions}
    left = {each for each, end in ends.items() if end}
    consumer.assign([TopicPartition(topic, each, 0) for each in left])
    found = []
    while left and (record := consumer.poll(PATIENCE)) is not None:
        if record.error() is None and record.value() is not None:
            found.append((f"{record.partition()}:{record.offset()}", json.loads(record.value())))
        left -= {
            each.partition for each in consumer.position(consumer.assignment()) if each.offset >= ends[each.partition]
        }
    return found


STOPS = [
    Stop("Chords", chords, ("api",)),
    Stop("Results", results, ("api",)),
    Stop("Results for other programs", other_programs),
]
ELSEWHERE = [
    Elsewhere("A cache in Redis", "it needs a Redis", "./dev test tests/integration/test_result_cache.py"),
]
