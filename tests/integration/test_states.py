"""The state records on a real broker: watched as they come, looked up from anywhere, scanned in bounded memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest
from confluent_kafka import Message, Producer

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import TopicSpec, state_topic
from kafka_exec.core.results.lifecycle import State, record_key, record_keys, task_id_of, to_celery
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import history
from kafka_exec.kafka.publish.partitioner import partition_of
from kafka_exec.kafka.results.states import StateReader, states
from tests.integration.workers import until

PARTITIONS = 4
SETTINGS = Settings(partitions={"state": PARTITIONS})

#: Two tasks of one partition.
ONE, OTHER = [f"task-{n}" for n in range(20) if partition_of(f"task-{n}", PARTITIONS) == 0][:2]

Join = Callable[[], Cluster]


@pytest.fixture
def join(kafka: EmbeddedKafka) -> Iterator[Join]:
    """Makes what a new process has of the cluster."""
    made: list[Cluster] = []

    def joined() -> Cluster:
        made.append(Cluster(kafka.client_config(), SETTINGS))
        return made[-1]

    yield joined
    for each in made:
        each.close(5)


@pytest.fixture
def spec(prefix: str) -> TopicSpec:
    return state_topic(SETTINGS, Topics(prefix))


class Writer:
    """Writes state records, each acknowledged when a call returns."""

    def __init__(self, cluster: Cluster, spec: TopicSpec) -> None:
        cluster.topics.ensure(spec)
        self._cluster = cluster
        self._topic = spec.name

    def write(self, task_id: str, state: State, **fields: Any) -> StateRecord:
        record = StateRecord(task_id, state, to_celery(state), **fields)
        self.raw(task_id, record_key(task_id, state), record.encode())
        return record

    def remove(self, task_id: str) -> None:
        for key in record_keys(task_id):
            self.raw(task_id, key, None)

    def raw(self, task_id: str, key: str, value: bytes | None) -> None:
        partition = partition_of(task_id, PARTITIONS)
        self._cluster.publisher.send(self._topic, value, key=key, partition=partition)


@pytest.fixture
def writer(join: Join, spec: TopicSpec) -> Writer:
    return Writer(join(), spec)


@pytest.fixture
def reader(join: Join, spec: TopicSpec) -> StateReader:
    return states(join(), spec)


class Seen:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.records: list[Message] = []

    def __call__(self, records: list[Message]) -> None:
        self.records.extend(records)

    def attempts(self, task_id: str) -> list[int]:
        values = [r.value() for r in list(self.records) if task_id_of(r.key().decode()) == task_id]
        return [StateRecord.decode(value).attempts or 0 for value in values if value is not None]


def seen_by(reader: StateReader) -> Seen:
    seen = Seen()
    reader.add_sink(seen)
    return seen


# Watching


def test_a_watched_tasks_records_come(reader: StateReader, writer: Writer) -> None:
    seen = seen_by(reader)
    writer.write(ONE, State.RUNNING, attempts=1)
    reader.watch([ONE])
    writer.write(ONE, State.RUNNING, attempts=2)
    writer.write(OTHER, State.DONE, attempts=7)
    writer.write(ONE, State.DONE, attempts=3, result={"a": 1})
    writer.remove(ONE)
    until(lambda: len(seen.records) == 5)
    assert seen.attempts(ONE) == [2, 3]
    assert {task_id_of(record.key().decode()) for record in seen.records} == {ONE}


def test_nothing_is_missed_under_concurrent_writes(reader: StateReader, writer: Writer) -> None:
    tasks = [f"busy-{n}" for n in range(12)]
    seen = seen_by(reader)
    written = 0
    ending = threading.Event()

    def write() -> None:
        nonlocal written
        while not ending.is_set():
            for task in tasks:
                writer.write(task, State.RUNNING, attempts=written + 1)
            written += 1

    thread = threading.Thread(target=write)
    thread.start()
    begun = {}
    for task in tasks:
        until(lambda before=written: written > before)
        reader.watch([task])
        begun[task] = written + 2  # the next round but one begins after watch() has returned
    until(lambda: written > max(begun.values()) + 20)
    ending.set()
    thread.join()
    for task in tasks:
        until(lambda task=task: seen.attempts(task)[-1:] == [written])
        found = seen.attempts(task)
        assert found == list(range(found[0], written + 1))
        assert found[0] <= begun[task]


def test_an_unwatched_tasks_records_do_not_come(reader: StateReader, writer: Writer) -> None:
    seen = seen_by(reader)
    reader.watch([ONE, OTHER])
    writer.write(ONE, State.RUNNING, attempts=1)
    until(lambda: seen.attempts(ONE))
    reader.unwatch([ONE, "never watched"])
    writer.write(ONE, State.RUNNING, attempts=2)
    writer.write(OTHER, State.RUNNING, attempts=1)
    until(lambda: seen.attempts(OTHER))
    assert seen.attempts(ONE) == [1]


@pytest.mark.timed
def test_watching_more_of_a_partition_asks_nobody(reader: StateReader) -> None:
    reader.watch([ONE])
    begun = time.perf_counter()
    for _ in range(1000):
        reader.watch([OTHER])
    taken = (time.perf_counter() - begun) / 1000
    print(f"{taken * 1e6:.1f} µs", end=" ")
    assert taken < 0.0005


def test_a_sink_that_fails_harms_nobody(reader: StateReader, writer: Writer) -> None:
    def fail(records: list[Message]) -> None:
        raise KeyError("the sink's own")

    reader.add_sink(fail)
    seen = seen_by(reader)
    reader.watch([ONE])
    done = writer.write(ONE, State.DONE, attempts=1)
    until(lambda: seen.attempts(ONE))
    assert reader.find(ONE) == done


# Looking up


def test_a_state_of_long_ago_is_found_from_a_new_process(join: Join, spec: TopicSpec, writer: Writer) -> None:
    written = [writer.write(f"old-{n}", State.DONE, result=n, started=1.5) for n in range(50)]
    found = [states(join(), spec).find(record.id) for record in (written[0], written[-1])]
    assert found == [written[0], written[-1]]
    reader = states(join(), spec)
    assert [reader.find(record.id) for record in written] == written


def test_what_was_acknowledged_is_seen_at_once(reader: StateReader, writer: Writer) -> None:
    for number in range(200):
        state = State.RUNNING if number % 3 else State.WAITING
        written = writer.write(f"fresh-{number % 10}", state, attempts=number)
        assert reader.find(written.id) == written


@pytest.mark.parametrize(
    ("states_written", "found"),
    [
        ([State.DONE, State.RUNNING, State.WAITING], State.DONE),
        ([State.FAILED, State.RUNNING], State.FAILED),
        ([State.REVOKED, State.SUSPENDED], State.REVOKED),
        ([State.FAILED, State.DONE, State.FAILED], State.DONE),
        ([State.RUNNING, State.SUSPENDED, State.RUNNING], State.RUNNING),
    ],
)
def test_an_end_wins_whatever_comes_later(
    join: Join,
    spec: TopicSpec,
    reader: StateReader,
    writer: Writer,
    states_written: list[State],
    found: State,
) -> None:
    assert reader.find(ONE) is None
    for state in states_written:
        writer.write(ONE, state)
    for each in (reader, states(join(), spec)):
        record = each.find(ONE)
        assert record is not None
        assert record.state is found


def test_a_compaction_changes_nothing(join: Join, spec: TopicSpec) -> None:
    eager = {"segment.ms": "50", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "1"}
    spec = replace(spec, config={**spec.config, **eager})
    writer, before = Writer(join(), spec), states(join(), spec)
    expected = {"t-done": State.DONE, "t-failed": State.FAILED, "t-running": State.RUNNING}
    for task, state in expected.items():
        writer.write(task, state, result=1)
    for _ in range(20):
        for task in expected:
            writer.write(task, State.RUNNING)
    assert {task: getattr(before.find(task), "state", None) for task in expected} == expected
    reads = join()

    def is_compacted() -> bool:
        writer.write("filler", State.RUNNING)  # closes the segment before it
        partition = partition_of("t-done", PARTITIONS)
        end = reads.log.ends(spec.name, [partition])[partition]
        keys = [r.key() for batch in history(reads, spec.name, partition, end) for r in batch]
        return keys.count(b"t-done/progress") == 1

    for task in expected:
        writer.write(f"{task}-neighbour", State.DONE)
        writer.write(task, State.RUNNING)
    until(is_compacted, 100)
    for reader in (before, states(join(), spec)):
        assert {task: getattr(reader.find(task), "state", None) for task in expected} == expected
        assert {record.id: record.state for record in reader.scan()}.items() >= expected.items()


def test_what_was_removed_is_unknown(join: Join, spec: TopicSpec, reader: StateReader, writer: Writer) -> None:
    writer.write(ONE, State.FAILED)
    writer.write(ONE, State.DONE)
    writer.raw(ONE, record_key(ONE, State.DONE), None)
    found = reader.find(ONE)
    assert found is not None
    assert found.state is State.FAILED
    writer.remove(ONE)
    for each in (reader, states(join(), spec)):
        assert each.find(ONE) is None
        assert list(each.scan()) == []
    again = writer.write(ONE, State.WAITING)
    assert reader.find(ONE) == again


def test_looking_up_makes_no_topic(join: Join, spec: TopicSpec, reader: StateReader) -> None:
    assert reader.find(ONE) is None
    assert list(reader.scan()) == []
    assert join().topics.partitions(spec.name) is None
    done = Writer(join(), spec).write(ONE, State.DONE)
    assert reader.find(ONE) == done


def test_many_threads_look_up_at_once(reader: StateReader, writer: Writer) -> None:
    written = [writer.write(f"many-{n}", State.DONE, result=n) for n in range(80)]
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda part=part: found.extend(reader.find(each.id) for each in written[part::8]))
        for part in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record.result for record in found) == list(range(80))


def test_transactions_hide_nothing_and_show_nothing_too_early(
    kafka: EmbeddedKafka, prefix: str, spec: TopicSpec, reader: StateReader, writer: Writer
) -> None:
    """An open transaction holds back what was acknowledged behind it: a look-up waits for it, a watcher sees its records."""
    producer = Producer({**kafka.client_config(), "transactional.id": prefix})
    producer.init_transactions(10)

    def begin(record: StateRecord) -> None:
        producer.begin_transaction()
        key = record_key(record.id, record.state)
        producer.produce(spec.name, record.encode(), key, partition_of(record.id, PARTITIONS))
        producer.flush(10)

    begin(StateRecord(ONE, State.DONE, "SUCCESS", result="aborted"))
    producer.abort_transaction(10)
    assert reader.find(ONE) is None

    begin(StateRecord(ONE, State.DONE, "SUCCESS", attempts=5))
    seen = seen_by(reader)
    reader.watch([ONE])
    behind = writer.write(OTHER, State.DONE)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(reader.find(OTHER)))
    thread.start()
    thread.join(0.5)
    assert found == []
    producer.commit_transaction(10)
    thread.join()
    assert found == [behind]
    assert seen.attempts(ONE) == [5]


GREEN = """
import {0}
{1}
import sys, time
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import state_topic
from kafka_exec.kafka.cluster.cluster import cluster, close_all
from kafka_exec.kafka.results.states import states
{2}
settings = Settings(partitions={{"state": 4}})
reader = states(cluster({{"bootstrap.servers": sys.argv[1]}}, settings), state_topic(settings, Topics(sys.argv[2])))
ticks = []
def tick():
    while True:
        ticks.append(1)
        time.sleep(0.001)
spawn(tick)
reader.watch([sys.argv[3]])
for _ in range(20):
    found = reader.find(sys.argv[3])
print(found.result, len(ticks) > 10)
close_all()
"""


@pytest.mark.parametrize(
    ("module", "patch", "spawn"),
    [
        ("gevent.monkey", "gevent.monkey.patch_all()", "from gevent import spawn"),
        ("eventlet", "eventlet.monkey_patch()", "from eventlet import spawn"),
    ],
)
def test_it_works_under_green_threads(
    kafka: EmbeddedKafka, prefix: str, writer: Writer, module: str, patch: str, spawn: str
) -> None:
    writer.write(ONE, State.DONE, result="green")
    servers = kafka.client_config()["bootstrap.servers"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GREEN.format(module, patch, spawn), servers, prefix, ONE],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "green True\n", done.stderr


# Scanning


def test_a_scan_folds_all_tasks(reader: StateReader, writer: Writer) -> None:
    expected = {}
    for number in range(60):
        task = f"scan-{number}"
        for state in [State.WAITING, State.RUNNING, *([State.FAILED] if number % 3 else []), State.RUNNING]:
            expected[task] = State.FAILED if number % 3 else writer.write(task, state).state
            if number % 3:
                writer.write(task, state)
    writer.write("removed", State.DONE)
    writer.remove("removed")
    writer.raw("foreign", "foreign", b"not ours")
    progress: list[tuple[int, int]] = []
    found = list(reader.scan(lambda done, total: progress.append((done, total))))
    assert {record.id: record.state for record in found} == expected
    assert len(found) == len(expected)
    assert progress == sorted(progress)
    assert progress[-1][0] == progress[-1][1]


# Faults and size


def test_a_restart_of_the_broker_is_survived(prefix: str) -> None:
    with EmbeddedKafka() as kafka:
        mine, others = (Cluster(kafka.client_config(), SETTINGS) for _ in range(2))
        spec = state_topic(SETTINGS, Topics(prefix))
        writer, reader = Writer(others, spec), states(mine, spec)
        seen = seen_by(reader)
        reader.watch([ONE])
        writer.write(ONE, State.RUNNING, attempts=1)
        found = reader.find(ONE)
        assert found is not None
        until(lambda: seen.attempts(ONE) == [1])
        kafka.stop()
        kafka.start()
        done = writer.write(ONE, State.DONE, attempts=2)
        until(lambda: seen.attempts(ONE) == [1, 2])
        assert reader.find(ONE) == done
        assert reader.find(OTHER) is None
        for each in (mine, others):
            each.close(5)


def seed(kafka: EmbeddedKafka, topic: str, number: int) -> None:
    """Fills a topic with ended tasks ``seed-0`` …, as fast as Kafka takes them."""
    producer = Producer({**kafka.client_config(), "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    for n in range(number):
        task = f"seed-{n}"
        record = StateRecord(task, State.DONE, "SUCCESS", name="tests.add", started=n, finished=n + 1.0, result=n)
        while True:
            try:
                producer.produce(topic, record.encode(), task, partition_of(task, PARTITIONS))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


@pytest.mark.timed
def test_many_records_take_little_time_and_memory(kafka: EmbeddedKafka, join: Join, spec: TopicSpec) -> None:
    number = 200_000
    join().topics.ensure(spec)
    seed(kafka, spec.name, number)
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    reader = states(join(), spec)

    def timed(n: int) -> float:
        begun = time.perf_counter()
        found = reader.find(f"seed-{n}")
        assert found is not None
        assert found.result == n
        return time.perf_counter() - begun

    cold = timed(number // 2)
    for n in range(50):
        timed(n)
    warm = statistics.median(timed(n) for n in range(0, number, number // 300))
    begun = time.perf_counter()
    assert sum(record.result for record in reader.scan()) == number * (number - 1) // 2
    scanned = time.perf_counter() - begun
    grown = (process.memory_info().rss - before) / 1e6
    print(f"cold {cold:.2f} s, warm {warm * 1000:.1f} ms, scan {scanned:.1f} s, {grown:.0f} MB", end=" ")
    assert cold < scanned, "a partition is read, not all"
    assert warm < scanned / 100, "a record is"
    assert grown < 150


# The commands


def celery_kafka(kafka: EmbeddedKafka, prefix: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "celery", "--result-backend", f"{kafka.url}/{prefix}", "kafka", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_show_tells_what_is_known_of_a_task(kafka: EmbeddedKafka, prefix: str, writer: Writer) -> None:
    writer.write(ONE, State.DONE, name="shop.charge", started=5, finished=7.5, result={"paid": True})
    shown = celery_kafka(kafka, prefix, "show", ONE)
    lines = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert (lines["id"], lines["state"], lines["name"]) == (ONE, "DONE", "shop.charge")
    assert json.loads(lines["result"]) == {"paid": True}
    as_json = json.loads(celery_kafka(kafka, prefix, "show", ONE, "--json").stdout)
    assert (as_json["schema"], as_json["result"], as_json["finished"]) == (1, {"paid": True}, 7.5)


def test_an_unknown_task_is_an_error_in_one_line(kafka: EmbeddedKafka, prefix: str) -> None:
    shown = celery_kafka(kafka, prefix, "show", "nobody")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == "Error: nothing is known of task nobody\n"


def test_executions_lists_the_latest_first(kafka: EmbeddedKafka, prefix: str, writer: Writer) -> None:
    for number in range(4):
        writer.write(f"e-{number}", State.DONE, name="add", started=number, finished=number + 1)
    writer.write("e-running", State.RUNNING, name="work", started=100)
    writer.write("e-failed", State.FAILED, name="work", started=50, finished=60)

    def listed(*options: str) -> list[str]:
        lines = celery_kafka(kafka, prefix, "executions", *options, "--json").stdout.splitlines()
        return [json.loads(line)["id"] for line in lines]

    assert listed() == ["e-running", "e-failed", "e-3", "e-2", "e-1", "e-0"]
    assert listed("--active") == ["e-running"]
    assert listed("--state", "failed") == ["e-failed"]
    assert listed("--name", "add", "--limit", "2") == ["e-3", "e-2"]
    table = celery_kafka(kafka, prefix, "executions", "--limit", "1")
    heading, row = table.stdout.splitlines()
    assert heading.split()[:3] == ["ID", "STATE", "NAME"]
    assert row.split()[:3] == ["e-running", "RUNNING", "work"]
    assert table.stderr == "5 more: --limit shows them\n"
