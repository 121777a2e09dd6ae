"""The metrics of this process by HTTP, as Prometheus takes them: what it has counted of its own work."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from kafka_exec.about import __version__
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.overview.metrics import PREFIX
from kafka_exec.core.results.counters import Durations
from kafka_exec.kafka.client import native
from kafka_exec.kafka.publish import meters
from kafka_exec.kafka.publish.meters import Meters

logger = logging.getLogger("kafka_exec")

#: So many ports are tried, from that of the setting on: several workers of a machine have the same setting.
TRIED = 20

_TOPIC = ("topic",)

#: The metrics of a process, each with its labels and its meaning.
METRICS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "process_info": (("kind", "node", "version"), "1; the node of the process, and its version of kafka_exec."),
    "publish_seconds": ((), "The time from sending a record to its acknowledgement by Kafka (histogram)."),
    "publish_errors_total": (("reason",), "Records that were not published."),
    "journal_flush_seconds": ((), "The same time, of the records of journals (histogram)."),
    "consumer_turn_age_seconds": (_TOPIC, "The time since a consumer of a queue last made a turn: about 1 at most."),
    "partitions_owned": (_TOPIC, "Partitions of a queue's topic that the process owns."),
    "rebalances_total": (_TOPIC, "How often the group of a queue has given partitions to the process."),
    "handovers_total": (_TOPIC, "Partitions of a queue that went from the process to others."),
    "grants_total": ((), "Tasks that the process has given to other workers, which had free slots."),
}


class MetricsPort:
    """The port of a node. All nodes of a process share one, which is open while one of them is.

    Args:
        settings: those of the node's cluster; without a port in them nothing is served, counted, or imported.
    """

    def __init__(self, settings: Settings, kind: str, name: str) -> None:
        self._settings = settings
        self._labels = {"kind": kind, "node": name, "version": __version__}

    def open(self) -> None:
        """Serves the metrics; a second call changes nothing. If they cannot be served that is logged, and the node works."""
        if not self._settings.metrics_port:
            return
        with _lock:
            try:
                if _server is None:
                    _serve(self._settings.metrics_host, self._settings.metrics_port, self._labels)
            except _NotServed as error:
                logger.error("no metrics of this process, kafka_exec_metrics_port is without effect: %s", error)
                return
            _users.add(id(self))

    def close(self) -> None:
        """Serves no more, unless other nodes of this process do."""
        with _lock:
            if id(self) in _users:
                _users.discard(id(self))
                if not _users:
                    _shut()


_lock = native.lock()
_users: set[int] = set()
_server: Any = None


class _NotServed(Exception):
    """The reason why the metrics cannot be served, and what helps."""


def _serve(host: str, first: int, labels: dict[str, str]) -> None:
    """Begins to count and to serve.

    Raises:
        _NotServed: prometheus_client is not installed, no port is free, or the host is none of this machine.
    """
    global _server
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise _NotServed("it needs prometheus_client: install kafka_exec[metrics]") from None
    counted = Meters()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ProcessMetrics(counted, labels))
    last = min(first + TRIED - 1, 65535)
    for port in range(first, last + 1):
        try:
            _server, _ = start_http_server(port, host, registry)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise _NotServed(f"it cannot listen on {host}:{port}: {error}") from None
        meters.count_in(counted)
        logger.info("metrics of this process: http://%s:%s/metrics", host, port)
        return
    raise _NotServed(f"no port from {first} to {last} is free on {host}: choose another one")


def _shut() -> None:
    global _server
    server, _server = _server, None
    meters.count_in(None)
    server.shutdown()
    server.server_close()


def _after_fork_in_child() -> None:
    """Lets go of the parent's port: while a child holds it, no other process gets it."""
    global _lock, _server
    _lock = native.lock()
    _users.clear()
    server, _server = _server, None
    if server is not None:
        server.socket.close()


os.register_at_fork(after_in_child=_after_fork_in_child)


class ProcessMetrics:
    """A collector of Prometheus' client. ``counted``: what the process has counted; ``labels``: of its node."""

    def __init__(self, counted: Meters, labels: dict[str, str]) -> None:
        self._counted = counted
        self._labels = labels

    def describe(self) -> list[Any]:
        """The metrics without samples: none."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metrics of now."""
        with self._counted.lock:
            return iter([*self._families()])

    def _families(self) -> Iterator[Any]:
        counted, now = self._counted, time.monotonic()
        yield _gauge("process_info", {tuple(self._labels.values()): 1.0})
        yield _histogram("publish_seconds", counted.publishing)
        yield _counter("publish_errors_total", {(reason,): number for reason, number in counted.errors.items()})
        yield _histogram("journal_flush_seconds", counted.journaling)
        yield _gauge("consumer_turn_age_seconds", {(topic,): now - turn.at for topic, turn in counted.turns.items()})
        yield _gauge("partitions_owned", {(topic,): turn.owned for topic, turn in counted.turns.items()})
        yield _counter("rebalances_total", {(topic,): number for topic, number in counted.rebalances.items()})
        yield _counter("handovers_total", {(topic,): number for topic, number in counted.handovers.items()})
        yield _counter("grants_total", {(): counted.grants})


def _gauge(name: str, samples: Mapping[tuple[str, ...], float]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily, name, samples)


def _counter(name: str, samples: Mapping[tuple[str, ...], float]) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily, name, samples)


def _filled(family: Any, name: str, samples: Mapping[tuple[str, ...], float]) -> Any:
    labels, meaning = METRICS[name]
    found = family(PREFIX + name, meaning, labels=labels)
    for values, value in samples.items():
        found.add_metric(values, value)
    return found


def _histogram(name: str, durations: Durations) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    labels, meaning = METRICS[name]
    found = HistogramMetricFamily(PREFIX + name, meaning, labels=labels)
    found.add_metric((), durations.buckets(), durations.total)
    return found
