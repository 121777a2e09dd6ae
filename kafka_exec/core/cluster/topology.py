"""Which settings each kind of topic has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it should be.

    Attributes:
        exact: another number of partitions is an error.
        remedy: what is to be done then; ``{found}`` stands for the number that there are.
    """

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False
    remedy: str = "change x-partitions to {found}"


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))


_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


def queue_topic(
    settings: Settings, topics: Topics, name: str, step: int = 0, partitions: int | None = None
) -> TopicSpec:
    """A work queue: nothing in it is ever deleted by time or size."""
    number = partitions or settings.partitions_of("queue")
    return TopicSpec(topics.queue(name, step), number, _FOR_EVER, exact=partitions is not None)


def journal_topic(topics: Topics, name: str, step: int, partitions: int) -> TopicSpec:
    """The journal of a work queue's topic, which has as many partitions."""
    return TopicSpec(topics.journal(name, step), partitions, _FOR_EVER)


def dead_topic(settings: Settings, topics: Topics, name: str, partitions: int | None = None) -> TopicSpec:
    """The dead letters of a work queue."""
    config = {"cleanup.policy": "delete", "retention.ms": _ms(settings.dead_retention)}
    return TopicSpec(topics.dead(name), partitions or settings.partitions_of("queue"), config)


def exchange_topic(settings: Settings, topics: Topics, name: str) -> TopicSpec:
    """The broadcast log of an exchange: short-lived, in small segments so that old ones can go."""
    config = {
        "cleanup.policy": "delete",
        "retention.ms": _ms(settings.exchange_retention),
        "segment.ms": _ms(settings.exchange_retention),
    }
    return TopicSpec(topics.exchange(name), settings.partitions_of("exchange"), config)


def bindings_topic(topics: Topics) -> TopicSpec:
    """Declarations and bindings: one partition, so that all processes see them in one order."""
    return TopicSpec(topics.bindings, 1, {"cleanup.policy": "compact"})


def nodes_topic(topics: Topics) -> TopicSpec:
    """Heartbeats: stamped by the broker, so that silence is measured by one clock."""
    config = {
        "cleanup.policy": "compact,delete",
        "retention.ms": _ms(86400),
        "message.timestamp.type": "LogAppendTime",
    }
    return TopicSpec(topics.nodes, 1, config)


def state_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The state records: the last of each key stays until a tombstone removes it.

    Hourly segments, since Kafka compacts only those that are closed, and a low ratio: most records are outdated within
    seconds, and a look-up from a new process reads all there are.
    """
    config = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.2",
        "segment.ms": _ms(3600),
    }
    return TopicSpec(topics.state, settings.partitions_of("state"), config)


def notes_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The errors and remarks of tasks: each stays, as long as a dead letter does."""
    config = {"cleanup.policy": "delete", "retention.ms": _ms(settings.dead_retention)}
    return TopicSpec(topics.notes, settings.partitions_of("state"), config)


def control_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """Commands of the control plane: none is ever deleted by time or size, and time is the broker's."""
    config = {**_FOR_EVER, "message.timestamp.type": "LogAppendTime"}
    return TopicSpec(topics.control, settings.partitions_of("control"), config)


def control_state_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The changelog of the control plane: one partition for each of the commands'."""
    return TopicSpec(topics.control_state, settings.partitions_of("control"), {"cleanup.policy": "compact"})


def delay_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The messages that wait: a partition for each level. None is deleted by time or size, and time is the broker's."""
    config = {**_FOR_EVER, "message.timestamp.type": "LogAppendTime"}
    return TopicSpec(topics.delay, settings.partitions_of("delay"), config)


def delay_state_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """How far the messages that wait have been moved: one partition for each level."""
    config = {"cleanup.policy": "compact", "segment.ms": _ms(3600)}
    return TopicSpec(topics.delay_state, settings.partitions_of("delay"), config)


def revoked_topic(settings: Settings, topics: Topics) -> TopicSpec:
    """The ids of revoked tasks, for workers that start later: forgotten after a time."""
    config = {"cleanup.policy": "compact,delete", "retention.ms": _ms(settings.revoked_retention)}
    return TopicSpec(topics.revoked, 1, config)


def sync_topic(topics: Topics) -> TopicSpec:
    """Claims of periodic entries and their firings: one partition, for the lowest offset wins; time is the broker's.

    Nothing is deleted by time or size, but what a checkpoint has made needless.
    """
    config = {**_FOR_EVER, "message.timestamp.type": "LogAppendTime"}
    remedy = "stop all beats, delete the topic, and let them make it anew"
    return TopicSpec(topics.sync, 1, config, exact=True, remedy=remedy)


def schedule_topic(topics: Topics) -> TopicSpec:
    """The periodic entries: one partition, so that all nodes see them in one order."""
    return TopicSpec(topics.schedule, 1, {"cleanup.policy": "compact"})


def differences(spec: TopicSpec, partitions: int, config: Mapping[str, str]) -> list[str]:
    """What of an existing topic is not as it should be, each with the command's worth of a remedy."""
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
