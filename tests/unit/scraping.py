"""Scrapes of the exporter, as Prometheus makes them, of planted states of a prefix."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kafka_exec.core.nodes.heartbeat import NodeState, Seen
from kafka_exec.core.overview.metrics import gauges
from kafka_exec.core.overview.queues import QueueReport
from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.nodes.metrics_port import ProcessMetrics
from kafka_exec.kafka.publish.meters import Meters, Turn
from kafka_exec.operations.metrics import TopicMetrics
from tests.unit.promql import Sample, Scrape

NOW = 1_000_000.0
MINUTE = 60


@dataclass(frozen=True)
class World:
    """A state of a prefix, and of the process of one worker.

    Attributes:
        reports: None: Kafka does not answer.
        is_served: False: the exporter does not answer.
        errors: the records that the worker could not publish since its start.
        turn_age: the time since the last turn of its consumer, seconds.
    """

    reports: tuple[QueueReport, ...] | None = ()
    nodes: tuple[tuple[Seen, NodeState], ...] = ()
    overdue: tuple[tuple[str, float], ...] = ()
    is_served: bool = True
    errors: int = 0
    turn_age: float = 0.4


class Planted(TopicMetrics):
    """The exporter's collector, of a planted state."""

    def __init__(self, world: World) -> None:
        super().__init__(None)
        self._world = world

    def read(self, now: float) -> list[Any]:
        if self._world.reports is None:
            raise ConnectionFailed("Kafka does not answer")
        return gauges(self._world.reports, self._world.nodes, dict(self._world.overdue), NOW)


def scraped(world: World) -> list[Sample]:
    """The samples of one scrape, with the labels that Prometheus adds."""
    counted = Meters()
    counted.errors["unreachable"] += world.errors
    counted.turns["celery.queue.mail"] = Turn(time.monotonic() - world.turn_age, 16)
    process = _samples(
        ProcessMetrics(counted, {"kind": "worker", "node": "celery@worker", "version": "1"}),
        job="kafka_exec_processes",
        instance="worker:9810",
    )
    if not world.is_served:
        return process
    return [*process, *_samples(Planted(world), job="kafka_exec", instance="exporter:9808")]


def _samples(collector: Any, **added: str) -> list[Sample]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return [Sample(each.name, {**each.labels, **added}, each.value) for family in families for each in family.samples]


def history(*phases: tuple[float, World]) -> list[Scrape]:
    """One scrape a minute. ``phases``: states that follow each other, each for so many seconds."""
    found: list[Scrape] = []
    for lasting, world in phases:
        samples = scraped(world)
        found += [Scrape((len(found) + number) * MINUTE, samples) for number in range(round(lasting / MINUTE))]
    return found
