"""Tables and the offsets that they are read by: complete when they are loaded, and kept up with from there on."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.kafka.client.properties import client_properties
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.table import Table
from kafka_exec.kafka.publish.scopes import confirmed
from kafka_exec.transport.namespace import Namespace
from tests.integration.workers import until

ROWS = 3_000
THREADS = 8

Join = Callable[[], Cluster]


@pytest.fixture
def join(kafka: EmbeddedKafka) -> Iterator[Join]:
    """Makes views of the cluster that share no client with each other, as of several processes."""
    made: list[Cluster] = []

    def new() -> Cluster:
        settings = Settings()
        made.append(Cluster(client_properties(servers=kafka.bootstrap_servers, settings=settings), settings))
        return made[-1]

    yield new
    for cluster in made:
        cluster.close(5.0)


@pytest.fixture
def here(join: Join) -> Cluster:
    return join()


@pytest.fixture
def spec(prefix: str) -> TopicSpec:
    return TopicSpec(f"{prefix}.table", 1, {"cleanup.policy": "compact,delete"})


@pytest.fixture
def log(here: Cluster, prefix: str) -> str:
    """A topic of two partitions, the first with three records."""
    made = TopicSpec(f"{prefix}.log", 2)
    here.topics.ensure(made)
    for number in range(3):
        here.publisher.send(made.name, str(number).encode(), partition=0)
    return made.name


def in_threads(act: Callable[[], None]) -> None:
    """Has several threads do something at once; the first error of one is raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if errors:
        raise errors[0]


def test_offsets_are_found_by_place_and_by_time(here: Cluster, log: str) -> None:
    assert here.log.ends(log, [0, 1]) == {0: 3, 1: 0}
    assert here.log.begin(log, 0, since=0) == 0
    assert here.log.begin(log, 0, since=time.time() - 3600) == 0
    assert here.log.begin(log, 0, since=time.time() + 3600) == 3, "none is so late: the end"
    here.topics.truncate(log, {0: 2})
    assert here.log.begin(log, 0, since=0) == 2


def test_many_threads_find_offsets_at_once(here: Cluster, log: str) -> None:
    def find() -> None:
        for _ in range(50):
            assert here.log.ends(log, [0, 1]) == {0: 3, 1: 0}

    in_threads(find)


@pytest.mark.timed
def test_offsets_are_found_while_a_quiet_log_is_followed(here: Cluster, log: str) -> None:
    arrived: list[int] = []
    here.log.subscribe(log, [0], lambda record: arrived.append(record.offset()), since=0)
    until(lambda: arrived == [0, 1, 2])
    times = []
    for _ in range(30):
        began = time.monotonic()
        here.log.ends(log, [0])
        times.append(time.monotonic() - began)
    assert statistics.median(times) < 0.05, "a fetch waits 0.1 s for records, and holds up what is asked behind it"


def test_a_table_is_complete_when_it_is_loaded(join: Join, spec: TopicSpec) -> None:
    written = Table(join(), spec)
    with confirmed():
        for number in range(ROWS):
            written.put(f"row {number}", number)
        for number in range(0, ROWS, 2):
            written.delete(f"row {number}")
    read = Table(join(), spec)
    assert read.rows() == {f"row {number}": number for number in range(1, ROWS, 2)}


def test_every_thread_that_loads_a_table_finds_it_complete(join: Join, spec: TopicSpec) -> None:
    written = Table(join(), spec)
    with confirmed():
        for number in range(ROWS):
            written.put(f"row {number}", number)
    read = Table(join(), spec)

    def load() -> None:
        read.load()
        assert read.get(f"row {ROWS - 1}") == ROWS - 1

    in_threads(load)


def test_a_table_whose_rows_are_all_gone_is_loaded(here: Cluster, join: Join, spec: TopicSpec) -> None:
    written = Table(here, spec)
    written.put("a", 1)
    written.put("b", 2)
    here.topics.truncate(spec.name, {0: 2})
    read = Table(join(), spec)
    assert read.rows() == {}
    written.put("c", 3)
    until(lambda: read.rows() == {"c": 3})


def test_what_is_written_while_a_table_is_loaded_is_not_missed(join: Join, spec: TopicSpec) -> None:
    written = Table(join(), spec)
    written.put("row -1", -1)
    some = threading.Event()
    loaded = threading.Event()
    count = 0

    def write() -> None:
        nonlocal count
        while not loaded.is_set():
            written.put(f"row {count}", count)
            count += 1
            if count == 20:
                some.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert some.wait(30)
    tables = [Table(cluster, spec) for cluster in (join(), join(), join())]
    for table in tables:
        table.load()
    loaded.set()
    writer.join()
    for table in tables:
        until(lambda table=table: table.rows() == written.rows())  # type: ignore[misc]


def test_a_workers_topics_are_made_at_once(here: Cluster, prefix: str) -> None:
    space = Namespace(here, prefix)
    space.make_worker_topics(["q"], ["", "news"])
    names = {
        space.topics.bindings,
        space.topics.nodes,
        space.topics.revoked,
        space.topics.queue("q"),
        space.topics.exchange(""),
        space.topics.exchange("news"),
    }
    assert {name for name in here.topics.counts() if name.startswith(f"{prefix}.")} == names
    assert all(here.topics.is_known(name) for name in names)
