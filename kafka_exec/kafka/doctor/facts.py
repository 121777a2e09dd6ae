"""The facts of a prefix's topics, and of the brokers, as Kafka tells them."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from confluent_kafka.admin import ConfigResource, ResourceType

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import spec_of
from kafka_exec.core.doctor.topics import TopicFacts
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import persist, within
from kafka_exec.kafka.cluster.admin import TIMEOUT, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.overview.reading import Layout, spans


class ClusterFacts(NamedTuple):
    """The brokers that are there, each ``host:port``, and the topics of a prefix."""

    brokers: list[str]
    topics: dict[str, TopicFacts]

    @property
    def layout(self) -> Layout:
        """The topics of the prefix."""
        return Layout({name: each.partitions for name, each in self.topics.items()})


def cluster_facts(cluster: Cluster, topics: Topics) -> ClusterFacts:
    """The facts of now.

    Raises:
        ConnectionFailed: the cluster does not answer.
        Forbidden: this user may not read the settings of topics.
    """
    return native.call(_cluster_facts, cluster, topics)


def record_numbers(cluster: Cluster, layout: Layout) -> dict[str, int]:
    """The numbers of the offsets that are in use in all topics of a layout, by topic.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    return native.call(_record_numbers, cluster, layout)


def _record_numbers(cluster: Cluster, layout: Layout) -> dict[str, int]:
    with within(TIMEOUT), administration(cluster) as admin:
        begins, ends = spans(admin, layout.places(*layout.counts))
    found = Counter[str]()
    for (topic, number), end in ends.items():
        found[topic] += end - begins[topic, number]
    return found


def _cluster_facts(cluster: Cluster, topics: Topics) -> ClusterFacts:
    with within(TIMEOUT), administration(cluster) as admin:
        seen = persist(lambda timeout: cluster.publisher.metadata(None, timeout), "listing topics", TIMEOUT)
        ours = {
            name: found.partitions
            for name, found in seen.topics.items()
            if spec_of(cluster.settings, topics, name, len(found.partitions)) is not None
        }
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in ours]
        described = (
            admin.ask(
                lambda client, timeout: client.describe_configs(resources, request_timeout=timeout),
                "reading the settings of topics",
            )
            if ours
            else {}
        )
    configs = {resource.name: found for resource, found in described.items()}
    brokers = sorted(f"{each.host}:{each.port}" for each in seen.brokers.values())
    return ClusterFacts(brokers, {name: _facts(partitions, configs[name]) for name, partitions in ours.items()})


def _facts(partitions: dict[int, Any], config: dict[str, Any]) -> TopicFacts:
    return TopicFacts(
        len(partitions),
        min(len(each.replicas) for each in partitions.values()),
        sum(len(each.isrs) < len(each.replicas) for each in partitions.values()),
        sum(each.leader < 0 for each in partitions.values()),
        {name: entry.value for name, entry in config.items() if entry.value is not None},
    )
