"""Reports of single topics: the purpose of each, how it is set up, how much is in it, and how it deviates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import differences, spec_of
from kafka_exec.core.doctor.topics import TopicFacts
from kafka_exec.core.overview.times import age_of


class TopicReport(NamedTuple):
    """The report of a topic.

    Attributes:
        replicas: the smallest number of replicas of a partition.
        cleanup: Kafka's ``cleanup.policy``.
        retention: Kafka deletes records that are so many seconds old; None: none by time.
        records: the offsets that are in use: records, those that were compacted away, and ends of transactions.
        deviations: what is not as it should be, in sentences.
    """

    topic: str
    purpose: str
    partitions: int
    replicas: int
    cleanup: str
    retention: float | None
    records: int
    deviations: list[str]

    @property
    def kept(self) -> str:
        """The text of how long its records stay."""
        time = "" if self.retention is None else age_of(0.0, self.retention)
        return ", ".join(filter(None, ("compacted" if "compact" in self.cleanup else "", time))) or "not by time"

    def facts(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return self._asdict()


def reports(
    found: Mapping[str, TopicFacts], records: Mapping[str, int], settings: Settings, topics: Topics
) -> list[TopicReport]:
    """The reports of the topics of a prefix, sorted by name.

    Args:
        found: their facts, by name.
        records: the numbers of their records.
    """
    return [_report(name, facts, records.get(name, 0), settings, topics) for name, facts in sorted(found.items())]


def _report(name: str, facts: TopicFacts, records: int, settings: Settings, topics: Topics) -> TopicReport:
    spec = spec_of(settings, topics, name, facts.partitions)
    cleanup, retention = facts.config.get("cleanup.policy", ""), int(facts.config.get("retention.ms", -1))
    deviations = [*([] if spec is None else differences(spec, facts.partitions, facts.config)), *_failures(facts)]
    return TopicReport(
        name,
        "" if spec is None else spec.purpose,
        facts.partitions,
        facts.replicas,
        cleanup,
        retention / 1000 if "delete" in cleanup and retention >= 0 else None,
        records,
        deviations,
    )


def _failures(facts: TopicFacts) -> Iterator[str]:
    if facts.leaderless:
        yield f"{facts.leaderless} partitions have no leader"
    if facts.lagging:
        yield f"{facts.lagging} partitions lack a replica that is in sync"
