"""The errors and remarks of tasks: a log beside the states, in which no record replaces another."""

from __future__ import annotations

import logging

from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.results.state_record import Note
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Fetcher, history
from kafka_exec.kafka.publish.partitioner import partition_of

logger = logging.getLogger("kafka_exec")

_CLOSING = 1.0


def append(cluster: Cluster, spec: TopicSpec, note: Note) -> None:
    """Appends a note of a task; it is durable when this returns.

    Raises:
        NotConfirmed, MessageTooLarge, ConnectionFailed: the note is not durable.
    """
    cluster.topics.ensure(spec)
    partition = partition_of(note.id, cluster.topics.partitions(spec.name) or spec.partitions)
    cluster.publisher.send(spec.name, note.encode(), key=note.id, partition=partition)


def read(cluster: Cluster, spec: TopicSpec, task_id: str) -> list[Note]:
    """The notes of a task, in order. This reads the whole of one partition: notes are rare, and rarely read.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    partitions = cluster.topics.partitions(spec.name, fresh=True)
    if not partitions:
        return []
    found: list[Note] = native.call(_read, cluster, spec.name, partition_of(task_id, partitions), task_id)
    return found


def _read(cluster: Cluster, topic: str, partition: int, task_id: str) -> list[Note]:
    fetcher = Fetcher(cluster, topic)
    try:
        end = fetcher.end(partition)
    finally:
        fetcher.close(_CLOSING)
    notes = []
    key = task_id.encode()
    for batch in history(cluster, topic, partition, end):
        for record in batch:
            if record.key() == key:
                try:
                    notes.append(Note.decode(record.value()))
                except Undecodable as error:
                    logger.debug("offset %s of %s: %s", record.offset(), topic, error)
    return notes
