"""``celery kafka exporter``: the metrics of queues, nodes and tasks for Prometheus, from the topics alone."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import click

from kafka_exec.settings.appconf import broker_home

logger = logging.getLogger("kafka_exec")

#: How long the end may take, seconds.
_ENDING = 5.0


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=9808, show_default=True, help="0: any free one.")
@click.pass_context
def exporter(context: click.Context, host: str, port: int) -> None:
    """Serve metrics of queues, nodes and tasks to Prometheus.

    It reads Kafka, so it is right also if no worker lives. What tasks come to is counted from its start on.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise click.ClickException("the exporter needs prometheus_client: install kafka_exec[metrics]") from None

    from kafka_exec.kafka.overview.counting import Counting

    space = broker_home(context.obj.app)
    counting = Counting(space.cluster, space.topics.state)
    counting.start()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(TopicMetrics(space))
    registry.register(TaskMetrics(counting))
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    server, thread = start_http_server(port, host, registry)
    click.echo(f"Serving metrics on http://{host}:{server.server_port}/metrics. Stop it with Ctrl-C.")
    ending.wait()
    server.shutdown()
    thread.join()
    counting.stop(_ENDING)


class TopicMetrics:
    """A collector of Prometheus' client, which reads the topics when it is asked. ``space``: the broker's namespace."""

    def __init__(self, space: Any) -> None:
        self._space = space
        self._lock = threading.Lock()

    def describe(self) -> list[Any]:
        """The metrics without samples: none, so that nothing is read before the first scrape."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metrics of now. If the cluster does not answer, ``kafka_exec_up`` is 0 and there are no others."""
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        from kafka_exec.about import __version__
        from kafka_exec.core.overview.metrics import PREFIX
        from kafka_exec.errors import KafkaExecError

        with self._lock:
            try:
                found = self.read(time.time())
            except KafkaExecError as error:
                logger.warning("no metrics: %s", error)
                found = None
        yield GaugeMetricFamily(f"{PREFIX}up", "1 if the topics could be read.", value=float(found is not None))
        yield InfoMetricFamily(f"{PREFIX}build", "The version of kafka_exec.", value={"version": __version__})
        for gauge in found or ():
            family = GaugeMetricFamily(PREFIX + gauge.name, gauge.help, labels=gauge.labels)
            for labels, value in gauge.samples:
                family.add_metric(labels, value)
            yield family

    def read(self, now: float) -> list[Any]:
        """The gauges of now, epoch seconds.

        Raises:
            KafkaExecError: the topics cannot be read.
        """
        from kafka_exec.core.overview.metrics import gauges
        from kafka_exec.kafka.overview.queues import Overview

        return gauges(*Overview(self._space.cluster, self._space.topics).survey(now), now)


class TaskMetrics:
    """A collector of the counters of tasks. ``counting``: counts them."""

    def __init__(self, counting: Any) -> None:
        self._counting = counting

    def describe(self) -> list[Any]:
        """The metrics without samples: none, as of :class:`TopicMetrics`."""
        return []

    def collect(self) -> Iterator[Any]:
        """The counters of now."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        from kafka_exec.core.overview.metrics import PREFIX
        from kafka_exec.core.results.counters import METRICS, RUN, TRANSITIONS, WAIT

        labels, meaning = METRICS[TRANSITIONS]
        transitions = CounterMetricFamily(PREFIX + TRANSITIONS, meaning, labels=labels)
        histograms = []
        with self._counting.lock:
            counters = self._counting.counters
            for values, number in counters.transitions.items():
                transitions.add_metric(values, number)
            for name, durations in ((RUN, counters.runs), (WAIT, counters.waits)):
                labels, meaning = METRICS[name]
                histograms.append(histogram := HistogramMetricFamily(PREFIX + name, meaning, labels=labels))
                for values, each in durations.items():
                    histogram.add_metric(values, each.buckets(), each.total)
        yield transitions
        yield from histograms
