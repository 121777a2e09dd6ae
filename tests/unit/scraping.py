"""Scrapes of the exporter, as Prometheus makes them, of planted states of a prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kafka_exec.core.nodes.heartbeat import NodeState, Seen
from kafka_exec.core.overview.metrics import gauges
from kafka_exec.core.overview.queues import QueueReport
from kafka_exec.errors import ConnectionFailed
from kafka_exec.operations.metrics import TopicMetrics
from tests.unit.promql import Sample, Scrape

NOW = 1_000_000.0
MINUTE = 60


@dataclass(frozen=True)
class World:
    """A state of a prefix. ``reports`` None: Kafka does not answer; ``is_served`` False: the exporter does not."""

    reports: tuple[QueueReport, ...] | None = ()
    nodes: tuple[tuple[Seen, NodeState], ...] = ()
    overdue: tuple[tuple[str, float], ...] = ()
    is_served: bool = True


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
    if not world.is_served:
        return []
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Planted(world))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    added = {"job": "kafka_exec", "instance": "exporter:9808"}
    return [Sample(each.name, {**each.labels, **added}, each.value) for family in families for each in family.samples]


def history(*phases: tuple[float, World]) -> list[Scrape]:
    """One scrape a minute. ``phases``: states that follow each other, each for so many seconds."""
    found: list[Scrape] = []
    for lasting, world in phases:
        samples = scraped(world)
        found += [Scrape((len(found) + number) * MINUTE, samples) for number in range(round(lasting / MINUTE))]
    return found
