"""Questions about queues, topics and nodes, and what needs an operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from celery import Celery

from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.core.doctor.reports import TopicReport
from kafka_exec.core.doctor.reports import reports as topic_reports
from kafka_exec.core.nodes.heartbeat import Heartbeat, NodeState, Seen, roll
from kafka_exec.core.overview.problems import Severity, problems
from kafka_exec.core.overview.queues import QueueReport
from kafka_exec.core.overview.rates import TaskRates
from kafka_exec.errors import NotFound
from kafka_exec.kafka.doctor.facts import cluster_facts, record_numbers
from kafka_exec.kafka.nodes.node import heard
from kafka_exec.kafka.overview.queues import Overview
from kafka_exec.kafka.overview.rates import task_rates
from kafka_exec.kafka.overview.reading import layout_of
from kafka_exec.settings.appconf import broker_home


def reports(space: Any, names: Collection[str], now: float) -> list[QueueReport]:
    """The reports of some queues, or of all if none is named. ``space``: the broker's namespace.

    Raises:
        NotFound: there is no queue of a name.
        ConnectionFailed: the cluster does not answer.
    """
    layout = layout_of(space.cluster)
    _check(names, layout.queue_names(space.topics))
    return Overview(space.cluster, space.topics, layout).survey(now, names or None).queues


def status(app: Celery, now: float) -> dict[str, Any]:
    """The cluster, the queues, how many nodes live, and what needs an operator, as a JSON object. ``now``: epoch seconds.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    space = broker_home(app)
    found, heard_nodes = Overview(space.cluster, space.topics).survey(now)
    needs = problems(found, heard_nodes, now)
    kinds = Counter(f"{seen.beat.kind or 'node'}" for seen, state in heard_nodes if state is NodeState.ALIVE)
    return {
        "schema": 1,
        "servers": space.cluster.servers,
        "prefix": space.topics.prefix,
        "queues": [report.facts(now) for report in found],
        "nodes": dict(kinds),
        "problems": [{**each._asdict(), "severity": each.severity.value} for each in needs],
    }


def rates(space: Any, names: Collection[str], since: float) -> dict[str, dict[str, TaskRates]]:
    """The numbers of the tasks of some queues, or of all, since a time (epoch seconds), by queue and name of the task.

    Args:
        space: the broker's namespace.

    Raises:
        NotFound: there is no queue of a name.
        ConnectionFailed: the cluster does not answer.
    """
    layout = layout_of(space.cluster)
    _check(names, layout.queue_names(space.topics))
    chosen = layout.queues(space.topics, names or None)
    return task_rates(space.cluster, space.topics, layout, chosen, since)


def _check(names: Collection[str], known: Collection[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise NotFound(f"there is no queue {unknown[0]!r}; there are {', '.join(sorted(known)) or 'none'}")


def topics(app: Celery) -> list[TopicReport]:
    """The reports of all topics of the application's prefix, sorted by name.

    Raises:
        Forbidden: this user may not read the settings of topics.
        ConnectionFailed: the cluster does not answer.
    """
    space = broker_home(app)
    found = cluster_facts(space.cluster, space.topics)
    numbers = record_numbers(space.cluster, found.layout)
    return topic_reports(found.topics, numbers, space.settings, space.topics)


def is_wrong(facts: dict[str, Any]) -> bool:
    """True if the facts of :func:`status` tell of something that is wrong."""
    return any(each["severity"] == Severity.WRONG.value for each in facts["problems"])


def nodes(app: Celery, task: str | None, hours: float, now: float) -> list[tuple[Seen, NodeState]]:
    """The nodes that were heard in so many hours, with their states.

    Args:
        task: only nodes that know the task of this name; None: all.
        now: epoch seconds.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    space = broker_home(app)
    beats = heard(space.cluster, nodes_topic(space.topics), now - hours * 3600)
    rolled = roll(beats, now=now, period=space.settings.heartbeat)
    return [(seen, state) for seen, state in rolled if task is None or task in (seen.beat.tasks or ())]


def node_facts(seen: Seen, state: NodeState, now: float) -> dict[str, Any]:
    """A node as a JSON object. ``now``: epoch seconds."""
    beat = seen.beat
    return {
        "kind": kind_of(beat),
        "version": beat.version or None,
        "name": seen.name,
        "state": state.value,
        "incarnation": beat.incarnation,
        "place": beat.place,
        "pid": beat.pid,
        "since": beat.since,
        "heard": seen.at,
        "age": max(0.0, now - seen.at),
        "control_plane": beat.control,
        "slots": beat.slots,
        "active": beat.active,
        "queues": beat.queues,
        "known": beat.known,
        "tasks": beat.tasks,
        "faults": beat.faults,
        "clock_ahead": beat.clock_ahead,
    }


def kind_of(beat: Heartbeat) -> str | None:
    """The kind of a node. Nodes of older versions do not send it, but their beats and workers can be told apart."""
    return beat.kind or ("beat" if beat.beat else "worker" if beat.slots else None)
