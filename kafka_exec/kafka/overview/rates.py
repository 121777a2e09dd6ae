"""Reading the messages and journals of some time, for the rates of tasks and for plans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.message.envelope import decode
from kafka_exec.core.overview.audit import JournalEvent
from kafka_exec.core.overview.planning.measure import Measures
from kafka_exec.core.overview.rates import SentTask, TaskRates, rates
from kafka_exec.core.results.lifecycle import TERMINAL
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.cluster.admin import TIMEOUT, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Spans, histories
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


def measures(
    cluster: Cluster, names: Topics, layout: Layout, topics: QueueTopics, since: float, until: float
) -> Measures:
    """The measures of one queue between two times (epoch seconds), of which ``until`` is now.

    Args:
        topics: those of the queue.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    journals = {names.journal(*place): topic for place, topic in topics.items()}
    with within(TIMEOUT), administration(cluster) as admin:
        sent = between(admin, layout.places(*topics.values()), since, None)
        told = between(admin, layout.places(*journals), since, None)
        states = between(admin, layout.places(names.state), since, None)
    found = Measures(since, until, {place: begin for place, (begin, _) in sent.items()})
    for batch in histories(cluster, sent):
        for record in batch:
            found.sent(record.timestamp()[1] / 1000, _size(record), _key(record))
    ids = cluster.topics.identities(list(topics.values()))
    queues = {journal: ids[topic] for journal, topic in journals.items()}
    for (journal, partition), event in journal_events(cluster, told, queues):
        found.told((journals[journal], partition), event)
    own = {name for name, _ in topics}
    for batch in histories(cluster, states):
        for record in batch:
            if (state := _state(record)) is not None and state.queue in own and state.state in TERMINAL:
                found.state(_size(record))
    return found


def _size(record: Record) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers() or ())
    return len(record.key() or b"") + len(record.value() or b"") + headers


def _key(record: Record) -> str | None:
    key = dict(record.headers() or ()).get("ordering-key")
    return key.decode(errors="replace") if key else None


def _state(record: Record) -> StateRecord | None:
    try:
        return None if record.value() is None else StateRecord.decode(record.value())
    except Undecodable:
        return None
