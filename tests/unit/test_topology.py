"""The configuration of each kind of topic, and the errors about topics that have another one."""

from __future__ import annotations

import pytest

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import (
    TopicSpec,
    bindings_topic,
    control_state_topic,
    control_topic,
    dead_topic,
    delay_state_topic,
    delay_topic,
    differences,
    exchange_topic,
    nodes_topic,
    queue_topic,
    revoked_topic,
    state_topic,
)

TOPICS = Topics("celery")


def test_a_work_queue_never_loses_anything_by_time_or_size() -> None:
    spec = queue_topic(Settings(), TOPICS, "mail")
    assert spec == TopicSpec(
        "celery.queue.mail", 16, {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    )


@pytest.mark.parametrize(
    ("settings", "declared", "partitions", "exact"),
    [
        (Settings(), None, 16, False),
        (Settings(partitions={"queue": 3}), None, 3, False),
        (Settings(partitions={"exchange": 3}), None, 16, False),
        (Settings(partitions={"queue": 3}), 5, 5, True),
    ],
)
def test_a_queue_may_name_its_partitions(
    settings: Settings, declared: int | None, partitions: int, exact: bool
) -> None:
    spec = queue_topic(settings, TOPICS, "mail", 1, declared)
    assert (spec.name, spec.partitions, spec.exact) == ("celery.queue.mail.p1", partitions, exact)
    assert dead_topic(settings, TOPICS, "mail", declared).partitions == partitions


def test_what_is_short_lived_is_deleted_by_time() -> None:
    settings = Settings(exchange_retention=60, dead_retention=0.5)
    log = exchange_topic(settings, TOPICS, "")
    assert (log.name, log.partitions) == ("celery.exchange.amq.default", 6)
    assert log.config == {"cleanup.policy": "delete", "retention.ms": "60000", "segment.ms": "60000"}
    assert dead_topic(settings, TOPICS, "mail").config["retention.ms"] == "500"


def test_shared_tables_are_compacted_in_one_partition() -> None:
    assert bindings_topic(TOPICS) == TopicSpec("celery.bindings", 1, {"cleanup.policy": "compact"})
    nodes = nodes_topic(TOPICS)
    assert (nodes.partitions, nodes.config["message.timestamp.type"]) == (1, "LogAppendTime")


def test_states_are_compacted() -> None:
    spec = state_topic(Settings(partitions={"state": 4}), TOPICS)
    assert (spec.name, spec.partitions, spec.config["cleanup.policy"]) == ("celery.state", 4, "compact")
    assert "max.message.bytes" not in spec.config


def test_the_control_plane_has_as_many_partitions_of_state_as_of_commands() -> None:
    settings = Settings(partitions={"control": 3})
    assert control_topic(settings, TOPICS) == TopicSpec(
        "celery.control",
        3,
        {
            "cleanup.policy": "delete",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "message.timestamp.type": "LogAppendTime",
        },
    )
    assert control_state_topic(settings, TOPICS) == TopicSpec("celery.control-state", 3, {"cleanup.policy": "compact"})


def test_what_waits_is_stamped_by_the_broker_and_never_deleted_by_time() -> None:
    settings = Settings(partitions={"delay": 3}, revoked_retention=60)
    waiting, positions = delay_topic(settings, TOPICS), delay_state_topic(settings, TOPICS)
    assert (waiting.name, waiting.partitions) == ("celery.delay", 3)
    assert (positions.name, positions.partitions) == ("celery.delay-state", 3)
    assert waiting.config == control_topic(settings, TOPICS).config
    assert positions.config["cleanup.policy"] == "compact"
    revoked = revoked_topic(settings, TOPICS)
    assert (revoked.name, revoked.partitions, revoked.config["retention.ms"]) == ("celery.revoked", 1, "60000")


SPEC = TopicSpec("t", 4, {"cleanup.policy": "compact,delete", "retention.ms": "-1"}, exact=True)


@pytest.mark.parametrize(
    ("spec", "partitions", "config", "found"),
    [
        (SPEC, 4, {}, []),
        (SPEC, 4, {"cleanup.policy": "delete,compact", "retention.ms": "-1", "other": "5"}, []),
        (SPEC, 8, {}, ["it has 8 partitions, 4 are declared: change x-partitions to 8"]),
        (TopicSpec("t", 4), 8, {}, []),
        (
            SPEC,
            4,
            {"retention.ms": "604800000"},
            ["retention.ms is 604800000: set it to -1 with kafka-configs --alter"],
        ),
        (
            SPEC,
            5,
            {"cleanup.policy": "delete", "retention.ms": "1"},
            [
                "it has 5 partitions, 4 are declared: change x-partitions to 5",
                "cleanup.policy is delete: set it to compact,delete with kafka-configs --alter",
                "retention.ms is 1: set it to -1 with kafka-configs --alter",
            ],
        ),
    ],
)
def test_differences_name_the_remedy(
    spec: TopicSpec, partitions: int, config: dict[str, str], found: list[str]
) -> None:
    assert differences(spec, partitions, config) == found
