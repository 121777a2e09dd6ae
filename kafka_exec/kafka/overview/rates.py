"""Reading the messages and journals of the last seconds, for the rates of tasks."""

from __future__ import annotations

from collections import defaultdict

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.message.envelope import decode
from kafka_exec.core.overview.rates import SentTask, TaskRates, rates
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.cluster.admin import TIMEOUT, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.overview.reading import Layout, QueueTopics, between, journal_events, read
from kafka_exec.kafka.overview.unfinished import MOST


def task_rates(
    cluster: Cluster, names: Topics, layout: Layout, topics: QueueTopics, since: float
) -> dict[str, dict[str, TaskRates]]:
    """The numbers of some queues since a time (epoch seconds), by queue and by the name of the task.

    The names of messages that came before are read too, of those that were told of last, and at most :data:`MOST` of each
    partition.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    journals = {topic: names.journal(*place) for place, topic in topics.items()}
    with within(TIMEOUT), administration(cluster) as admin:
        sent = between(admin, layout.places(*topics.values()), since, None)
        told = between(admin, layout.places(*journals.values()), since, None)
    ids = cluster.topics.identities(list(topics.values()))
    found: dict[str, dict[str, TaskRates]] = {name: defaultdict(TaskRates) for name, _ in topics}
    for (name, _), topic in topics.items():
        for place in [place for place in sent if place[0] == topic]:
            own = (journals[topic], place[1])
            events = list(journal_events(cluster, own, told[own], ids[topic])) if own in told else []
            begin, end = sent[place]
            before = [each.transition.offset for each in events if 0 <= each.transition.offset < begin]
            messages = dict(read(cluster, {place: (begin, end)}, _sent)[place])
            if before:
                last = max(before) + 1
                messages |= dict(read(cluster, {place: (max(min(before), last - MOST), last)}, _sent)[place])
            for task, numbers in rates(messages, events, since).items():
                found[name][task] += numbers
    return found


def _sent(record: Record) -> tuple[int, SentTask]:
    try:
        name = decode(record.headers(), record.value()).task.get("task")
    except Undecodable:
        name = None
    return record.offset(), SentTask(name if isinstance(name, str) else "", record.timestamp()[1] / 1000)
