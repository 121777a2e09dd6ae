"""The metrics of queues, nodes and tasks as collectors of Prometheus' client, from the topics alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily

from kafka_exec.about import __version__
from kafka_exec.core.overview.metrics import PREFIX, gauges
from kafka_exec.core.results.counters import METRICS, RUN, TRANSITIONS, WAIT
from kafka_exec.errors import KafkaExecError
from kafka_exec.kafka.overview.counting import Counting
from kafka_exec.kafka.overview.queues import Overview

logger = logging.getLogger("kafka_exec")

#: How long the end may take, seconds.
_ENDING = 5.0


@contextmanager
def metrics(space: Any) -> Iterator[CollectorRegistry]:
    """The metrics beside the block; what tasks come to is counted from its begin on. ``space``: the broker's namespace."""
    counting = Counting(space.cluster, space.topics.state)
    counting.start()
    try:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(TopicMetrics(space))
        registry.register(TaskMetrics(counting))
        yield registry
    finally:
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
