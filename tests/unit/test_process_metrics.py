"""The metrics of a process: each moves with what it counts; without a port nothing is counted, served or imported."""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from confluent_kafka import KafkaError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.overview.metrics import PREFIX
from kafka_exec.kafka.nodes import metrics_port
from kafka_exec.kafka.nodes.metrics_port import METRICS, TRIED, MetricsPort, ProcessMetrics
from kafka_exec.kafka.publish import meters
from kafka_exec.kafka.publish.meters import REASONS, Meters
from kafka_exec.kafka.queue.journal_writer import JournalWriter
from kafka_exec.worker.sharing import Sharing
from tests.snippets import ROOT

Samples = dict[tuple[str, ...], float]

ANSWER: Any = SimpleNamespace(latency=lambda: 0.02, topic=lambda: "t", offset=lambda: 1)
LABELS = {"kind": "worker", "node": "w@h", "version": "1"}


@pytest.fixture
def counted() -> Iterator[Meters]:
    found = Meters()
    meters.count_in(found)
    yield found
    meters.count_in(None)


def samples(counted: Meters) -> Samples:
    """All samples, by their names without the prefix and the values of their labels."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ProcessMetrics(counted, LABELS))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (each.name.removeprefix(PREFIX), *each.labels.values()): each.value
        for family in families
        for each in family.samples
    }


def moved(counted: Meters, before: Samples) -> Samples:
    """The samples that have changed, without the buckets of histograms."""
    now = samples(counted)
    return {name: value for name, value in now.items() if value != before.get(name) and "bucket" not in name[0]}


def error(code: int) -> KafkaError:
    return KafkaError(code)


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda: meters.published(None, ANSWER), {("publish_seconds_count",): 1, ("publish_seconds_sum",): 0.02}),
        (lambda: meters.journaled(ANSWER), {("journal_flush_seconds_count",): 1, ("journal_flush_seconds_sum",): 0.02}),
        (
            lambda: meters.published(error(KafkaError._MSG_TIMED_OUT), ANSWER),
            {("publish_errors_total", "unreachable"): 1},
        ),
        (
            lambda: meters.not_sent(error(KafkaError.MSG_SIZE_TOO_LARGE)),
            {("publish_errors_total", "too-large"): 1},
        ),
        (
            lambda: meters.not_sent(error(KafkaError.TOPIC_AUTHORIZATION_FAILED)),
            {("publish_errors_total", "forbidden"): 1},
        ),
        (lambda: meters.not_sent(None), {("publish_errors_total", "full"): 1}),
        (lambda: meters.assigned("q"), {("rebalances_total", "q"): 1}),
        (lambda: meters.handed_over("q", 3), {("handovers_total", "q"): 3}),
        (lambda: meters.granted(2), {("grants_total",): 2}),
    ],
)
def test_a_metric_moves_with_what_it_counts_and_no_other_does(act: Any, expected: Samples, counted: Meters) -> None:
    before = samples(counted)
    act()
    assert moved(counted, before) == expected


def test_a_consumer_tells_its_partitions_and_its_last_turn_until_it_has_left(counted: Meters) -> None:
    before = samples(counted)
    meters.turned("q", 4)
    counted.turns["q"] = counted.turns["q"]._replace(at=time.monotonic() - 40)
    found = moved(counted, before)
    assert found["partitions_owned", "q"] == 4
    assert 40 <= found["consumer_turn_age_seconds", "q"] < 100
    meters.turned("q", 3)
    assert moved(counted, before)["consumer_turn_age_seconds", "q"] < 40
    meters.left("q")
    assert moved(counted, before) == {}


def test_all_metrics_that_the_page_names_are_told(counted: Meters) -> None:
    meters.turned("q", 1)
    meters.assigned("q")
    meters.handed_over("q", 1)
    told = {name[0].removesuffix("_count") for name in samples(counted)}
    assert set(METRICS) <= told
    assert ("process_info", *LABELS.values()) in samples(counted)


def test_all_reasons_are_told_before_the_first_error_so_that_it_is_an_increase(counted: Meters) -> None:
    assert {name[1] for name in samples(counted) if name[0] == "publish_errors_total"} == set(REASONS)


def test_a_process_without_a_port_counts_nothing() -> None:
    found = Meters()
    for act in (lambda: meters.published(None, ANSWER), lambda: meters.turned("q", 1), lambda: meters.granted(1)):
        act()
    assert (found.grants, found.turns, found.publishing.total) == (0, {}, 0.0)


def test_a_process_without_a_port_imports_no_client_of_prometheus() -> None:
    code = (
        "import sys, kafka_exec.worker, kafka_exec.beat\n"
        "from kafka_exec.core.cluster.settings import Settings\n"
        "from kafka_exec.kafka.nodes.metrics_port import MetricsPort\n"
        "port = MetricsPort(Settings(), 'worker', 'w'); port.open(); port.close()\n"
        "sys.exit('prometheus_client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# -- the port ----------------------------------------------------------------------------------------------------------


@contextmanager
def listening(port: int = 0) -> Iterator[int]:
    """A port that somebody else has."""
    with socket.create_server(("127.0.0.1", port)) as taken:
        yield taken.getsockname()[1]


def port_of(caplog: pytest.LogCaptureFixture) -> int:
    (line,) = [each.getMessage() for each in caplog.records if "metrics of this process: http" in each.getMessage()]
    return int(line.removesuffix("/metrics").rpartition(":")[2])


def is_open(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def made(port: int, host: str = "127.0.0.1", name: str = "w@h") -> MetricsPort:
    return MetricsPort(Settings(metrics_port=port, metrics_host=host), "worker", name)


def test_a_port_that_is_taken_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with listening() as taken:
        port = made(taken)
        port.open()
        found = port_of(caplog)
        assert taken < found < taken + TRIED
        meters.granted(7)
        with urlopen(f"http://127.0.0.1:{found}/metrics", timeout=60) as answer:
            assert f"{PREFIX}grants_total 7.0" in answer.read().decode().splitlines()
        port.close()
        assert not is_open(found)


def test_all_nodes_of_a_process_share_a_port_until_the_last_one_stops(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with listening() as free:
        pass
    first, second = made(free, name="one"), made(free, name="two")
    first.open()
    first.open()
    second.open()
    found = port_of(caplog)
    first.close()
    first.close()
    assert is_open(found)
    second.close()
    assert not is_open(found)
    first.open()  # it begins anew
    assert is_open(found)
    first.close()


def test_a_child_of_a_pool_lets_go_of_the_port_and_counts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with listening() as free:
        pass
    port = made(free)
    port.open()
    found = port_of(caplog)
    (reads, writes), (waits, _) = os.pipe(), os.pipe()
    if not (child := os.fork()):
        os.write(writes, b"%d%d" % (metrics_port._server is None, meters._active is None))
        os.read(waits, 1)  # it lives on, for nobody writes there
        os._exit(0)
    try:
        assert os.read(reads, 2) == b"11"
        port.close()
        with listening(found):
            pass
    finally:
        port.close()
        os.kill(child, 9)
        os.waitpid(child, 0)


def assert_not_served(port: MetricsPort, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Opening a port is an error in the log, and nothing more."""
    port.open()
    port.close()
    assert [each.levelname for each in caplog.records if text in each.getMessage()] == ["ERROR"]
    assert meters._active is None


def test_an_address_of_another_machine_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert_not_served(made(9810, "192.0.2.1"), "it cannot listen on 192.0.2.1:9810", caplog)


def test_so_many_ports_are_tried_and_no_more(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def taken(port: int, *rest: Any) -> Any:
        tried.append(port)
        raise OSError(errno.EADDRINUSE, "taken")

    monkeypatch.setattr("prometheus_client.start_http_server", taken)
    assert_not_served(made(9810), "no port from 9810 to 9829 is free on 127.0.0.1", caplog)
    assert_not_served(made(65530), "no port from 65530 to 65535 is free", caplog)
    assert tried == [*range(9810, 9830), *range(65530, 65536)]


def test_a_client_of_prometheus_that_is_not_installed_is_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    made(9810).open()
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.endswith("it needs prometheus_client: install kafka_exec[metrics]")


# -- the places that count ---------------------------------------------------------------------------------------------


def test_an_acknowledged_record_of_a_journal_counts_and_a_refused_one_does_not(counted: Meters) -> None:
    writer = JournalWriter(SimpleNamespace(), "journal", "me")  # type: ignore[arg-type]
    entry: Any = SimpleNamespace(stream=SimpleNamespace(settle=lambda entry, offset: None))
    writer._settle(entry, error(KafkaError._MSG_TIMED_OUT), ANSWER)
    assert sum(counted.journaling.counts) == 0
    writer._settle(entry, None, ANSWER)
    assert sum(counted.journaling.counts) == 1


def test_tasks_that_are_given_to_others_count(counted: Meters) -> None:
    node: Any = SimpleNamespace(grant=lambda grants: None)
    sharing = Sharing(None, None, node, None)  # type: ignore[arg-type]
    sharing._grant([object(), object()])  # type: ignore[list-item]
    sharing._grant([])
    assert counted.grants == 2
