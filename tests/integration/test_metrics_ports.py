"""The metrics that workers and beats serve of themselves, and what counts there when records are published."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import MessageTooLarge
from kafka_exec.kafka.publish import meters
from kafka_exec.kafka.publish.meters import Meters
from kafka_exec.settings.appconf import broker_home
from tests.integration.beat_tools import Diary
from tests.integration.workers import PATIENCE, Crew, Worker, crew, until

LINE = re.compile(r"metrics of this process: (http://127\.0\.0\.1:(\d+)/metrics)")


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with socket.create_server(("127.0.0.1", 0)) as asked:
        port = asked.getsockname()[1]
    schedule = {"often": {"task": "work", "schedule": 0.5}}
    with crew(kafka, tmp_path, "same", kafka_exec_metrics_port=port, beat_schedule=schedule) as found:
        yield found


class Metrics:
    """The metrics of one process."""

    def __init__(self, process: Worker) -> None:
        process.wait_for_line("metrics of this process: ")
        found = LINE.search(process.output)
        assert found is not None
        self.address, self.port = found[1], int(found[2])

    def read(self) -> dict[str, float]:
        """All samples, by their names without the prefix."""
        with urlopen(self.address, timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (each.removeprefix("kafka_exec_").rsplit(" ", 1) for each in lines if each[0] != "#")
        return {name: float(value) for name, value in pairs}


def runs_a_task(made: Crew, of: Metrics) -> dict[str, float] | None:
    """Sends tasks; the metrics of a worker if it has run one: its states were published, and its begin or end journaled."""
    made.effects.wait_for(made.send("work", number=4))
    found = of.read()
    return found if found["publish_seconds_count"] and found["journal_flush_seconds_count"] else None


def test_workers_and_beats_of_a_machine_serve_what_they_do(made: Crew) -> None:
    # Threads: their process is the worker's own, so what tasks publish counts.
    workers = [made.start(name, "-c", "1", "-P", "threads") for name in ("one", "two")]
    made.ready(*workers)
    made.shared_out("celery", 2)
    beat = made.start_beat("b1")
    one, two, third = Metrics(workers[0]), Metrics(workers[1]), Metrics(beat)
    assert len({one.port, two.port, third.port}) == 3
    topic = f'{{topic="{made.prefix}.queue.celery"}}'
    for each in (one, two):
        found = until(lambda each=each: runs_a_task(made, each))
        assert found["publish_seconds_sum"] > 0
        assert found["rebalances_total" + topic] >= 1
        assert 0 <= found["consumer_turn_age_seconds" + topic] < PATIENCE
        assert {value for name, value in found.items() if name.startswith("publish_errors_total")} == {0}
    assert one.read()["partitions_owned" + topic] + two.read()["partitions_owned" + topic] == 8
    Diary(made).until_fired("often", 1)
    assert [name for name in third.read() if 'kind="beat"' in name and name.startswith("process_info")]
    # The port is free when the process is gone, and the other one owns all.
    workers[1].stop()
    until(lambda: one.read()["partitions_owned" + topic] == 8)
    with socket.create_server(("127.0.0.1", two.port)):
        pass


def test_partitions_that_go_to_another_worker_are_handed_over(made: Crew) -> None:
    worker = made.start("one", "-c", "1")
    made.ready(worker)
    found = Metrics(worker)
    topic = f'{{topic="{made.prefix}.queue.celery"}}'
    until(lambda: found.read().get("partitions_owned" + topic) == 8)
    assert "handovers_total" + topic not in found.read()
    made.start("two", "-c", "1")
    until(lambda: found.read().get("handovers_total" + topic) == 4)
    until(lambda: found.read()["partitions_owned" + topic] == 4)


def test_a_record_that_cannot_be_published_counts_with_its_reason(made: Crew) -> None:
    publisher = broker_home(made.app).cluster.publisher
    made.send("work")  # the bindings too
    counted = Meters()
    meters.count_in(counted)
    try:
        made.send("work", number=3)
        assert sum(counted.publishing.counts) == 3
        assert 0 < counted.publishing.total < PATIENCE
        assert sum(counted.errors.values()) == 0
        with pytest.raises(MessageTooLarge):
            made.app.send_task("work", ["x" * 3_000_000])
        assert +counted.errors == {"too-large": 1}
        publisher.post("no topic of this name", b"lost")  # a name that Kafka refuses
        until(lambda: (publisher.serve(0.1), +counted.errors != {"too-large": 1})[1])
        (reason,) = set(+counted.errors) - {"too-large"}
        assert reason in ("wrong", "no-topic")
    finally:
        meters.count_in(None)
