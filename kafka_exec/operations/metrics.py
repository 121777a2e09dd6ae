"""The metrics of queues, nodes and tasks as collectors of Prometheus' client, from the topics alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily

from kafka_exec.about import __version__
from kafka_exec.beat.periodic import PeriodicTasks
from kafka_exec.core.overview.metrics import PREFIX, gauges
from kafka_exec.core.results.counters import METRICS, RUN, TRANSITIONS, WAIT
from kafka_exec.errors import KafkaExecError
from kafka_exec.kafka.overview.counting import Counting
from kafka_exec.kafka.overview.queues import Overview
from kafka_exec.kafka.overview.reading import layout_of
from kafka_exec.settings.appconf import broker_home

logger = logging.getLogger("kafka_exec")

#: How long the end may take, seconds.
_ENDING = 5.0


@contextmanager
def metrics(app: Celery) -> Iterator[CollectorRegistry]:
    """The metrics beside the block; what tasks come to is counted from its begin on.

    Raises:
        NotInKafka: the broker is not kafka-exec.
        ConnectionFailed: no broker answers.
    """
    space = broker_home(app)
    counting = Counting(space.cluster, space.topics.state)
    counting.start()
    try:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(TopicMetrics(app))
        registry.register(TaskMetrics(counting))
        yield registry
    finally:
        counting.stop(_ENDING)


class TopicMetrics:
    """A collector of Prometheus' client, which reads the topics when it is asked."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._periodic: PeriodicTasks | None = None
        self._lock = threading.Lock()

    def describe(self) -> list[Any]:
        """The metrics without samples: none, so that nothing is read before the first scrape."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metrics of now. If the cluster does not answer, ``kafka_exec_up`` is 0 and there are no others."""
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
        space = broker_home(self._app)
        layout = layout_of(space.cluster)
        survey = Overview(space.cluster, space.topics, layout).survey(now)
        return gauges(*survey, self._overdue(now) if space.topics.sync in layout.counts else {}, now)

    def _overdue(self, now: float) -> dict[str, float]:
        """The seconds by which each entry is overdue that beats fire."""
        if self._periodic is None:
            self._periodic = PeriodicTasks(self._app)
        found = {each.name: each.overdue(now) for each in self._periodic.all()}
        return {name: seconds for name, seconds in found.items() if seconds is not None}


class TaskMetrics:
    """A collector of the counters of tasks. ``counting``: counts them."""

    def __init__(self, counting: Any) -> None:
        self._counting = counting

    def describe(self) -> list[Any]:
        """The metrics without samples: none, as of :class:`TopicMetrics`."""
        return []

    def collect(self) -> Iterator[Any]:
        """The counters of now."""
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
