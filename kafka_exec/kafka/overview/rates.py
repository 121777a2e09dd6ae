"""Reading the messages and journals of the last seconds, for the rates of tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.message.envelope import decode
from kafka_exec.core.overview.audit import JournalEvent
from kafka_exec.core.overview.rates import SentTask, TaskRates, rates
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.cluster.admin import TIMEOUT, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Spans
from kafka_exec.kafka.overview.reading import Layout, Place, QueueTopics, between, journal_events, read
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
    events: dict[Place, list[JournalEvent]] = defaultdict(list)
    for place, event in journal_events(cluster, told, {journals[topic]: ids[topic] for topic in ids}):
        events[place].append(event)
    events = {place: events[journals[place[0]], place[1]] for place in sent}
    messages = read(cluster, sent, _sent)
    older = read(cluster, _before(sent, events), _sent)
    found: dict[str, dict[str, TaskRates]] = {name: defaultdict(TaskRates) for name, _ in topics}
    names_of = {topic: name for (name, _), topic in topics.items()}
    for place in sent:
        known = dict([*older.get(place, ()), *messages.get(place, ())])
        for task, numbers in rates(known, events[place], since).items():
            found[names_of[place[0]]][task] += numbers
    return found


def _before(sent: Spans, events: Mapping[Place, list[JournalEvent]]) -> Spans:
    """The offsets of the messages that came before a time and were told of last in it, in each partition."""
    found = {}
    for place, (begin, _) in sent.items():
        offsets = [each.transition.offset for each in events[place] if 0 <= each.transition.offset < begin]
        if offsets:
            end = max(offsets) + 1
            found[place] = (max(min(offsets), end - MOST), end)
    return found


def _sent(record: Record) -> tuple[int, SentTask]:
    try:
        name = decode(record.headers(), record.value()).task.get("task")
    except Undecodable:
        name = None
    return record.offset(), SentTask(name if isinstance(name, str) else "", record.timestamp()[1] / 1000)
