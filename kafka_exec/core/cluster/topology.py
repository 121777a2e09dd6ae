"""The settings that each kind of topic must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka_exec.core.cluster.names import DEFAULT_EXCHANGE, Topics
from kafka_exec.core.cluster.settings import Settings


@dataclass(frozen=True)
class TopicSpec:
    """The specification of a topic.

    Attributes:
        exact: another number of partitions is an error.
        remedy: the remedy for that error; ``{found}`` stands for the number that there are.
        purpose: the records that it holds, in words for people.
    """

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False
    remedy: str = "change x-partitions to {found}"
    purpose: str = field(default="", compare=False)


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))


def _of_step(step: int) -> str:
    return f", priority step {step}" if step else ""


_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


def queue_topic(
    settings: Settings, topics: Topics, name: str, step: int = 0, partitions: int | None = None
) -> TopicSpec:
    """The topic of a work queue: Kafka never deletes its records by time or size."""
    number = partitions or settings.partitions_of("queue")
    return TopicSpec(
        topics.queue(name, step),
        number,
        _FOR_EVER,
        exact=partitions is not None,
        purpose=f"messages of queue {name}{_of_step(step)}",
    )


def queue_topic_named(settings: Settings, topic: str) -> TopicSpec:
    """The topic of a work queue, by the topic's own name."""
    return TopicSpec(topic, settings.partitions_of("queue"), _FOR_EVER)


def journal_topic(topics: Topics, name: str, step: int, partitions: int) -> TopicSpec:
    """The topic of a queue's journal, which has as many partitions as the queue's topic."""
    return TopicSpec(
        topics.journal(name, step), partitions, _FOR_EVER, purpose=f"journal of queue {name}{_of_step(step)}"
    )


def dead_topic(settings: Settings, topics: Topics, name: str, partitions: int | None = None) -> TopicSpec:
    """The topic of a work queue's dead letters."""
    config = {"cleanup.policy": "delete", "retention.ms": _ms(settings.dead_retention)}
    return TopicSpec(
        topics.dead(name),
        partitions or settings.partitions_of("queue"),
        config,
        purpose=f"dead letters of queue {name}",
    )


def exchange_topic(settings: Settings, topics: Topics, name: str) -> TopicSpec:
    """The topic of an exchange's broadcasts: short-lived, in small segments so that Kafka can delete old ones."""
    config = {
        "cleanup.policy": "delete",
        "retention.ms": _ms(settings.exchange_retention),
        "segment.ms": _ms(settings.exchange_retention),
    }
    return TopicSpec(
        topics.exchange(name),
        settings.partitions_of("exchange"),
        config,
        purpose=f"broadcasts of exchange {name or DEFAULT_EXCHANGE}",
    )


def bindings_topic(topics: Topics) -> TopicSpec:
    """The topic of declarations and bindings: one partition, so that all processes see them in one order."""
    return TopicSpec(topics.bindings, 1, {"cleanup.policy": "compact"}, purpose="bindings and pauses of queues")


def nodes_topic(topics: Topics) -> TopicSpec:
    """The topic of heartbeats: the broker stamps them, so that silence is measured by one clock."""
    config = {
        "cleanup.policy": "compact,delete",
        "retention.ms": _ms(86400),
        "message.timestamp.type": "LogAppendTime",
    }
    return TopicSpec(topics.nodes, 1, config, purpose="heartbeats")


def state_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The topic of state records: the last record of each key stays until a tombstone removes it.

    Segments last an hour, since Kafka compacts only closed ones. The ratio is low, since most records are outdated within
    seconds, and the first look-up of a process reads all that are there.
    """
    config = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.2",
        "segment.ms": _ms(3600),
    }
    return TopicSpec(topics.state, settings.partitions_of("state"), config, purpose="states and results of tasks")


def notes_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The topic of tasks' errors and remarks: each stays as long as a dead letter."""
    config = {"cleanup.policy": "delete", "retention.ms": _ms(settings.dead_retention)}
    return TopicSpec(topics.notes, settings.partitions_of("state"), config, purpose="errors and remarks of tasks")


def steps_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The topic of what durable tasks have done so far: kept until the task has ended, and for the audit time after that.

    The broker stamps the records, since a repeated run reads them from a time on.
    """
    config = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": _ms(settings.audit_retention),
        "message.timestamp.type": "LogAppendTime",
    }
    return TopicSpec(topics.steps, settings.partitions_of("state"), config, purpose="steps of durable tasks")


def control_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The topic of the control plane's commands: never deleted by time or size, and stamped by the broker."""
    config = {**_FOR_EVER, "message.timestamp.type": "LogAppendTime"}
    return TopicSpec(topics.control, settings.partitions_of("control"), config, purpose="commands of the control plane")


def control_state_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The topic of the control plane's changelog: one partition for each partition of commands."""
    return TopicSpec(
        topics.control_state,
        settings.partitions_of("control"),
        {"cleanup.policy": "compact"},
        purpose="state of the control plane",
    )


def delay_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The topic of delayed messages, a partition for each level: never deleted by time or size, stamped by the broker."""
    config = {**_FOR_EVER, "message.timestamp.type": "LogAppendTime"}
    return TopicSpec(topics.delay, settings.partitions_of("delay"), config, purpose="delayed messages")


def delay_state_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The topic of the offsets up to which delayed messages were moved: one partition for each level."""
    config = {"cleanup.policy": "compact", "segment.ms": _ms(3600)}
    return TopicSpec(
        topics.delay_state, settings.partitions_of("delay"), config, purpose="positions in the delayed messages"
    )


def revoked_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The topic of the ids of revoked tasks, for workers that start later. Kafka deletes them after a time."""
    config = {"cleanup.policy": "compact,delete", "retention.ms": _ms(settings.revoked_retention)}
    return TopicSpec(topics.revoked, 1, config, purpose="ids of revoked tasks")


def sync_topic(topics: Topics) -> TopicSpec:
    """The topic of claims and firings: one partition, since the lowest offset wins, stamped by the broker.

    Kafka deletes nothing by time or size. The beats delete records that a checkpoint has made needless.
    """
    config = {**_FOR_EVER, "message.timestamp.type": "LogAppendTime"}
    remedy = "stop all beats, delete the topic, and let them make it anew"
    return TopicSpec(
        topics.sync, 1, config, exact=True, remedy=remedy, purpose="claims and firings of periodic entries"
    )


def schedule_topic(topics: Topics) -> TopicSpec:
    """The topic of the periodic entries: one partition, so that all nodes see them in one order."""
    return TopicSpec(topics.schedule, 1, {"cleanup.policy": "compact"}, purpose="periodic entries")


def differences(spec: TopicSpec, partitions: int, config: Mapping[str, str]) -> list[str]:
    """The differences of an existing topic from its specification, as sentences with a remedy each."""
    found = []
    if spec.exact and partitions != spec.partitions:
        found.append(
            f"it has {partitions} partitions, {spec.partitions} are declared: {spec.remedy.format(found=partitions)}"
        )
    for key, wanted in spec.config.items():
        actual = config.get(key, wanted)
        if set(actual.split(",")) != set(wanted.split(",")):
            found.append(f"{key} is {actual}: set it to {wanted} with kafka-configs --alter")
    return found


def spec_of(settings: Settings, topics: Topics, topic: str, partitions: int) -> TopicSpec | None:
    """The specification of an existing topic with so many partitions, by its name; None if it is none of ours.

    The number of partitions of a queue is what its declaration says, so any is right.
    """
    single = (
        bindings_topic(topics),
        nodes_topic(topics),
        state_topic(settings, topics),
        notes_topic(settings, topics),
        steps_topic(settings, topics),
        control_topic(settings, topics),
        control_state_topic(settings, topics),
        delay_topic(settings, topics),
        delay_state_topic(settings, topics),
        revoked_topic(settings, topics),
        sync_topic(topics),
        schedule_topic(topics),
    )
    found = next((spec for spec in single if spec.name == topic), None)
    if found is None and (queue := topics.queue_of(topic)) is not None:
        return queue_topic(settings, topics, *queue)
    if found is None and (queue := topics.queue_of_journal(topic)) is not None:
        return journal_topic(topics, *queue, partitions)
    if found is None and (name := topics.queue_of_dead(topic)) is not None:
        return dead_topic(settings, topics, name, partitions)
    if found is None and (name := topics.exchange_of(topic)) is not None:
        return exchange_topic(settings, topics, name)
    return found
