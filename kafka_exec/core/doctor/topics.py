"""Findings about the topics of a prefix: their replicas and leaders, and settings by which records would be lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import differences, spec_of
from kafka_exec.core.overview.problems import Problem, Severity

#: A cluster of so many brokers can keep each record twice while one of them is away.
_SAFE = 3

_LARGEST = "max.message.bytes"


class TopicFacts(NamedTuple):
    """The facts of a topic.

    Attributes:
        replicas: the smallest number of replicas of a partition.
        lagging: the number of partitions of which a replica is behind or away.
        leaderless: the number of partitions without a leader.
        config: its settings in Kafka.
    """

    partitions: int
    replicas: int
    lagging: int
    leaderless: int
    config: Mapping[str, str]


def of_topics(
    facts: Mapping[str, TopicFacts], settings: Settings, topics: Topics, brokers: int, largest: int
) -> Iterator[Problem]:
    """The findings about the topics of a prefix.

    Args:
        facts: by the name of the topic.
        brokers: the number of brokers that are there.
        largest: the bytes of the largest message that this app's clients send.
    """
    if not facts:
        yield Problem(
            Severity.WARNING, "there is no topic yet: the first worker or message makes them", "celery -A APP worker"
        )
        return
    found = [problem for name, each in sorted(facts.items()) for problem in _of_replicas(name, each, brokers)]
    for name, each in sorted(facts.items()):
        if (spec := spec_of(settings, topics, name, each.partitions)) is not None:
            found += [
                Problem(Severity.WRONG, f"topic {name}: {difference}", f"kafka-configs --alter --topic {name}")
                for difference in differences(spec, each.partitions, each.config)
            ]
        if int(each.config.get(_LARGEST, largest)) < largest:
            text = f"topic {name} takes messages of {each.config[_LARGEST]} bytes, the app sends up to {largest}"
            found.append(Problem(Severity.WARNING, text, f"kafka-configs --alter --topic {name}"))
    yield from found
    if not found:
        number = sum(each.partitions for each in facts.values())
        yield Problem(Severity.OK, f"{len(facts)} topics with {number} partitions are set up as they must be", "")


def _of_replicas(name: str, facts: TopicFacts, brokers: int) -> Iterator[Problem]:
    if facts.leaderless:
        yield Problem(
            Severity.WRONG,
            f"{facts.leaderless} of {facts.partitions} partitions of {name} have no leader: they take and give nothing",
            f"kafka-topics --describe --topic {name}",
        )
    elif facts.lagging:
        yield Problem(
            Severity.WRONG,
            f"{facts.lagging} of {facts.partitions} partitions of {name} lack a replica that is in sync",
            "kafka-topics --describe --under-replicated-partitions",
        )
    if facts.replicas < min(_SAFE, brokers):
        yield Problem(
            Severity.WARNING,
            f"topic {name} has {facts.replicas} replicas on {brokers} brokers: it is away, or lost, with them",
            "kafka-reassign-partitions",
        )
