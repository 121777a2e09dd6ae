"""The findings of doctor: each fault by a line of its own, and nothing to be looked at where all is well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import (
    bindings_topic,
    control_state_topic,
    control_topic,
    dead_topic,
    delay_state_topic,
    delay_topic,
    exchange_topic,
    journal_topic,
    nodes_topic,
    notes_topic,
    queue_topic,
    revoked_topic,
    schedule_topic,
    spec_of,
    state_topic,
    steps_topic,
    sync_topic,
)
from kafka_exec.core.doctor.access import Trial, of_access, of_brokers, of_clock
from kafka_exec.core.doctor.app import AppFacts, of_app
from kafka_exec.core.doctor.reports import reports
from kafka_exec.core.doctor.topics import TopicFacts, of_topics
from kafka_exec.core.nodes.heartbeat import Heartbeat, NodeState, Seen
from kafka_exec.core.overview.problems import Problem, Severity

SETTINGS, TOPICS = Settings(), Topics("shop")

SPECS = [
    queue_topic(SETTINGS, TOPICS, "celery"),
    queue_topic(SETTINGS, TOPICS, "celery", 3),
    journal_topic(TOPICS, "celery", 0, 16),
    journal_topic(TOPICS, "celery", 2, 5),
    dead_topic(SETTINGS, TOPICS, "celery", 7),
    exchange_topic(SETTINGS, TOPICS, "celeryev"),
    bindings_topic(TOPICS),
    nodes_topic(TOPICS),
    state_topic(SETTINGS, TOPICS),
    notes_topic(SETTINGS, TOPICS),
    steps_topic(SETTINGS, TOPICS),
    control_topic(SETTINGS, TOPICS),
    control_state_topic(SETTINGS, TOPICS),
    delay_topic(SETTINGS, TOPICS),
    delay_state_topic(SETTINGS, TOPICS),
    revoked_topic(SETTINGS, TOPICS),
    sync_topic(TOPICS),
    schedule_topic(TOPICS),
]

WELL = {
    spec.name: TopicFacts(spec.partitions, 3, 0, 0, {**spec.config, "max.message.bytes": "1048588"}) for spec in SPECS
}

QUEUE = TOPICS.queue("celery")


def lines(found: Iterable[Problem], *severities: Severity) -> list[str]:
    return [each.text for each in found if each.severity in (severities or (Severity.WRONG, Severity.WARNING))]


def node(name: str = "one", state: NodeState = NodeState.ALIVE, **facts: Any) -> tuple[Seen, NodeState]:
    beat = replace(Heartbeat(name, "host", 1, control=True, beat=True), **facts)
    return Seen(name, beat, 100.0), state


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_topics_specification_is_found_by_its_name(spec: Any) -> None:
    found = spec_of(SETTINGS, TOPICS, spec.name, spec.partitions)
    assert found is not None
    assert (found.name, found.partitions, found.config) == (spec.name, spec.partitions, spec.config)
    assert spec_of(SETTINGS, Topics("other"), spec.name, spec.partitions) is None


def test_a_healthy_cluster_has_nothing_to_be_looked_at() -> None:
    found = [
        *of_brokers(["a:9092", "b:9092", "c:9092"]),
        *of_topics(WELL, SETTINGS, TOPICS, brokers=3, largest=1_000_000),
        *of_access(dict.fromkeys(Trial), "shop"),
        *of_clock(10.0, 10.1, 10.2),
        *of_app(AppFacts(results="kafka-exec://a"), [node(queues=("celery",))], {"celery": 16}),
    ]
    assert lines(found) == []
    assert lines(found, Severity.OK) == [
        "3 brokers: a:9092, b:9092, c:9092",
        f"{len(WELL)} topics with {sum(each.partitions for each in WELL.values())} partitions are set up as they must be",
        "this user may do all that publishers, workers and beats do",
        "the clock of this machine agrees with that of Kafka",
    ]


def test_each_topic_has_a_purpose_and_tells_how_long_it_keeps_what() -> None:
    told = {each.topic: each for each in reports(WELL, {QUEUE: 7}, SETTINGS, TOPICS)}
    assert sorted(told) == list(told) == sorted(WELL)
    assert all(each.purpose and not each.deviations for each in told.values())
    assert len({each.purpose for each in told.values()}) == len(told)
    assert told[QUEUE].facts() == {
        "topic": QUEUE,
        "purpose": "messages of queue celery",
        "partitions": 16,
        "replicas": 3,
        "cleanup": "delete",
        "retention": None,
        "records": 7,
        "deviations": [],
    }
    assert told[f"{QUEUE}.p3"].purpose == "messages of queue celery, priority step 3"
    kept = [told[f"shop.{name}"].kept for name in ("queue.celery", "dead.celery", "bindings", "nodes")]
    assert kept == ["not by time", "30 d", "compacted", "compacted, 24 h"]


def test_a_topic_tells_how_it_deviates() -> None:
    hurt = config(retention_ms="1000")._replace(lagging=2, leaderless=1)
    (found,) = reports({QUEUE: hurt}, {}, SETTINGS, TOPICS)
    assert (found.retention, found.records) == (1.0, 0)
    assert found.deviations == [
        "retention.ms is 1000: set it to -1 with kafka-configs --alter",
        "1 partitions have no leader",
        "2 partitions lack a replica that is in sync",
    ]


def config(**changes: str) -> TopicFacts:
    changed = {name.replace("_", "."): value for name, value in changes.items()}
    return WELL[QUEUE]._replace(config={**WELL[QUEUE].config, **changed})


@pytest.mark.parametrize(
    ("facts", "severity", "text"),
    [
        (config(retention_ms="604800000"), Severity.WRONG, "retention.ms is 604800000: set it to -1"),
        (config(cleanup_policy="compact"), Severity.WRONG, "cleanup.policy is compact: set it to delete"),
        (
            config(max_message_bytes="1000"),
            Severity.WARNING,
            "takes messages of 1000 bytes, the app sends up to 1000000",
        ),
        (WELL[QUEUE]._replace(leaderless=2), Severity.WRONG, "2 of 16 partitions of shop.queue.celery have no leader"),
        (WELL[QUEUE]._replace(lagging=5), Severity.WRONG, "5 of 16 partitions of shop.queue.celery lack a replica"),
        (WELL[QUEUE]._replace(replicas=1), Severity.WARNING, "has 1 replicas on 3 brokers"),
    ],
)
def test_a_topic_by_which_records_would_be_lost_is_told(facts: TopicFacts, severity: Severity, text: str) -> None:
    [told] = lines(of_topics({**WELL, QUEUE: facts}, SETTINGS, TOPICS, brokers=3, largest=1_000_000), severity)
    assert text in told


def test_one_broker_needs_one_replica_and_a_prefix_without_topics_is_told() -> None:
    alone = {name: facts._replace(replicas=1) for name, facts in WELL.items()}
    assert lines(of_topics(alone, SETTINGS, TOPICS, brokers=1, largest=1)) == []
    [told] = lines(of_topics({}, SETTINGS, TOPICS, brokers=1, largest=1))
    assert "there is no topic yet" in told


@pytest.mark.parametrize("trial", Trial)
def test_a_right_that_lacks_is_told_with_the_command_that_gives_it(trial: Trial) -> None:
    results: Mapping[Trial, str | None] = {**dict.fromkeys(Trial), trial: "refused"}
    [problem] = of_access(results, "shop")
    assert problem.text == f"this user lacks {trial.value} that begin with shop.: refused"
    is_needed = trial in (Trial.WRITE, Trial.READ, Trial.COMMIT, Trial.TRANSACT)
    assert problem.severity is (Severity.WRONG if is_needed else Severity.WARNING)
    assert f"--operation {trial.value.split()[0]} --resource-pattern-type prefixed --" in problem.command


def test_what_could_not_be_tried_is_told() -> None:
    [lacks, untried] = of_access({Trial.CREATE: "refused"}, "shop")
    assert "lacks CREATE" in lacks.text
    assert untried.text.startswith(
        "not tried, since no topic could be made: DESCRIBE_CONFIGS on topics, WRITE on topics"
    )


@pytest.mark.parametrize(
    ("sent", "stamped", "confirmed", "text"),
    [
        (10.0, 7.5, 10.2, "2.5 s ahead of"),
        (10.0, 15.2, 10.2, "5.0 s behind"),
        (10.0, 9.5, 10.2, None),
        (10.0, 10.8, 10.2, None),
        (10.0, 15.0, 20.0, None),  # the confirmation took long, and proves nothing
    ],
)
def test_a_clock_that_differs_is_told(sent: float, stamped: float, confirmed: float, text: str | None) -> None:
    told = lines(of_clock(sent, stamped, confirmed))
    assert (text is None) is (told == [])
    assert text is None or text in told[0]


@pytest.mark.parametrize(
    ("app", "nodes", "severity", "text"),
    [
        (
            AppFacts(advice={"task_acks_late=False": "a task is lost"}),
            [node()],
            Severity.WARNING,
            "task_acks_late=False: a",
        ),
        (
            AppFacts(results="redis://h", has_our_results=False),
            [node()],
            Severity.WARNING,
            "the results are in redis://h",
        ),
        (AppFacts(has_our_results=False), [node()], Severity.WARNING, "the results are not kept"),
        (AppFacts(entries=2), [node(beat=False)], Severity.WRONG, "2 periodic entries are due, and no beat is alive"),
        (AppFacts(), [node(control=False)], Severity.WRONG, "no node drives chords and suspensions"),
        (AppFacts(), [node(state=NodeState.LOST)], Severity.WARNING, "no node is alive"),
        (
            AppFacts(),
            [node(name, queues=("celery",)) for name in ("a", "b", "c")],
            Severity.WARNING,
            "3 workers read celery, which has 2 partitions",
        ),
    ],
)
def test_what_an_app_gives_up_or_lacks_is_told(
    app: AppFacts, nodes: list[tuple[Seen, NodeState]], severity: Severity, text: str
) -> None:
    [told] = lines(of_app(app, nodes, {"celery": 2}), severity)
    assert text in told


def test_where_a_setting_comes_from_is_told() -> None:
    found = of_app(AppFacts({"heartbeat": (2.0, "the environment variable KAFKA_EXEC_HEARTBEAT")}), [node()], {})
    assert lines(found, Severity.OK) == ["heartbeat is 2.0, from the environment variable KAFKA_EXEC_HEARTBEAT"]
