"""The trail of a task, read from the topics that have its records."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.durable import trail
from kafka_exec.core.durable.history import MARGIN
from kafka_exec.core.message.dead import REPLAYED_FROM
from kafka_exec.core.message.envelope import decode
from kafka_exec.core.message.window import MOST_STEPS
from kafka_exec.core.queue.transitions import object_of, transitions_of
from kafka_exec.core.results.lifecycle import task_id_of
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Fetcher, history
from kafka_exec.kafka.publish.partitioner import partition_of
from kafka_exec.kafka.results.notes import read

_CLOSING = 1.0


def read_trail(cluster: Cluster, topics: Topics, notes: TopicSpec, state: StateRecord) -> list[trail.Happening]:
    """The events of a task, in order of time. Its messages are there for ``kafka_exec_audit_retention`` after their end.

    Args:
        notes: the topic of tasks' errors and remarks.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    found: list[trail.Happening] = native.call(_read_trail, cluster, topics, state)
    found += map(trail.of_note, read(cluster, notes, state.id))
    if (end := trail.of_state(state)) is not None:
        found.append(end)
    return sorted(found, key=lambda each: each.at)


def _journal_of(topics: Topics, state: StateRecord) -> str:
    """The journal of a task's queue; empty if it is not known."""
    queue = state.queue or ""
    steps = (step for step in range(MOST_STEPS) if queue and topics.queue(queue, step) == state.topic)
    return next((topics.journal(queue, step) for step in steps), "")


def _read_trail(cluster: Cluster, topics: Topics, state: StateRecord) -> list[trail.Happening]:
    since = (state.created or 0.0) - MARGIN
    found: list[trail.Happening] = []
    offsets: set[int] = set()
    if state.partition is not None:
        for record in _since(cluster, state.topic or "", state.partition, since):
            if (sent := _sent(record, state.id)) is not None:
                found.append(sent)
                offsets.add(record.offset())
        for record in _since(cluster, _journal_of(topics, state), state.partition, since):
            for transition, incarnation in transitions_of(object_of(record.value())):
                if trail.concerns(transition, offsets):
                    told = trail.of_transition(transition, incarnation, _at(record), _place(record))
                    found += [] if told is None else [told]
    if number := cluster.topics.partitions(topics.steps, fresh=True):
        own = f"{state.id}/".encode()
        for record in _since(cluster, topics.steps, partition_of(state.id, number), since):
            if (record.key() or b"").startswith(own) and (step := object_of(record.value())).get("task") == state.id:
                found.append(trail.of_step(step, _at(record), _place(record)))
    if number := cluster.topics.partitions(topics.state, fresh=True):
        for record in _since(cluster, topics.state, partition_of(state.id, number), since):
            if (told := _progress(record, state.id)) is not None:
                found.append(told)
    return found


def _since(cluster: Cluster, topic: str, partition: int, since: float) -> Iterator[Record]:
    if not topic or partition >= (cluster.topics.partitions(topic, fresh=True) or 0):
        return
    fetcher = Fetcher(cluster, topic)
    try:
        end = fetcher.end(partition)
    finally:
        fetcher.close(_CLOSING)
    for batch in history(cluster, topic, partition, end, cluster.log.begin(topic, partition, max(0.0, since))):
        yield from batch


def _sent(record: Record, task_id: str) -> trail.Happening | None:
    try:
        message = decode(record.headers(), record.value())
    except Undecodable:
        return None
    if message.task.get("id") != task_id:
        return None
    replayed = any(name == REPLAYED_FROM for name, _ in record.headers() or ())
    return trail.of_message(message, _at(record), _place(record), replayed=replayed)


def _progress(record: Record, task_id: str) -> trail.Happening | None:
    try:
        if task_id_of((record.key() or b"").decode()) != task_id or record.value() is None:
            return None
        return trail.of_progress(StateRecord.decode(record.value()), _at(record), _place(record))
    except (Undecodable, UnicodeDecodeError):
        return None


def _at(record: Record) -> float:
    at: float = record.timestamp()[1] / 1000
    return at


def _place(record: Record) -> tuple[str, int, int]:
    return record.topic(), record.partition(), record.offset()
