"""Reading all that the topics tell of a task, to say why it does not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.core.control.delay import DelayHeaders, eta_of
from kafka_exec.core.control.waiting import Suspension
from kafka_exec.core.message.envelope import CONTINUATIONS, decode, ticket_of
from kafka_exec.core.nodes.heartbeat import NodeState, Seen, roll
from kafka_exec.core.overview.standing import MessageStanding, QueuePartition, TaskRecord
from kafka_exec.core.overview.why import (
    Answer,
    Buried,
    DelayedMessage,
    Evidence,
    Reason,
    Searched,
    decide,
    lacks_knower,
    last_knower,
)
from kafka_exec.core.queue.pausing import NO_PAUSES, QueuePauses
from kafka_exec.core.record.fields import from_json
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.core.worker.versions import needed
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.nodes.node import TASKS_EVERY, heard
from kafka_exec.kafka.overview.letters import buried
from kafka_exec.kafka.overview.reading import Layout, everything, layout_of, read
from kafka_exec.kafka.overview.suspensions import suspensions
from kafka_exec.kafka.overview.unfinished import MOST, delayed, paused, unfinished

#: Finds the state of a task; None if it has none.
FindState = Callable[[str], StateRecord | None]


def why(cluster: Cluster, topics: Topics, find: FindState | None, task_id: str, now: float) -> Answer:
    """The reason why a task does not run. It joins no group, asks no worker and writes nothing.

    Args:
        find: finds the states of tasks; None: they are not in Kafka.
        now: epoch seconds.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    # A message may have moved between two topics while they were read: a second look finds it.
    for _ in range(2):
        found = decide(_Search(cluster, topics, find, now).evidence(task_id))
        if found.reason not in (Reason.UNKNOWN, Reason.NOT_FOUND):
            break
    return found


class _Search:
    """One search. It reads a topic when it needs it first, and once."""

    def __init__(self, cluster: Cluster, topics: Topics, find: FindState | None, now: float) -> None:
        self._cluster = cluster
        self._topics = topics
        self._find = find
        self._now = now
        self._is_cut = False
        self._layout = layout_of(cluster)

    def evidence(self, task_id: str) -> Evidence:
        """The facts of a task, and those of the task that it waits for."""
        # In this order, in which messages move and end, so that no task seems to be nowhere.
        delay = self._delays.get(task_id)
        standings = tuple(each for partition in self._partitions for each in partition.standings(task_id))
        letter = self._letters.get(task_id)
        found = Evidence(
            task_id,
            self._now,
            self._searched,
            state=None if self._find is None else self._find(task_id),
            standings=standings,
            delay=delay,
            suspension=self._suspensions.get(task_id),
            letter=letter,
            revoked=self._revoked.get(task_id),
            nodes=tuple(self._nodes),
        )
        standing = found.standing
        if standing is None:
            return found
        found = replace(found, pauses=self._pauses.get(standing.queue, NO_PAUSES))
        if lacks_knower(found):
            every = heard(self._cluster, nodes_topic(self._topics), 0)
            found = replace(found, knower=last_knower(every, standing.needed))
        if standing.is_blocked and standing.head not in ("", task_id):
            found = replace(found, head=self.evidence(standing.head))
        return replace(found, before=self._before(standing))

    def _before(self, standing: MessageStanding) -> int:
        return sum(each.ready_before(standing) for each in self._partitions if each.queue == standing.queue)

    @property
    def _searched(self) -> Searched:
        queues, kept = {each.queue for each in self._partitions}, self._cluster.settings.dead_retention
        return Searched(self._topics.prefix, len(queues), self._find is not None, kept, MOST, self._is_cut)

    @cached_property
    def _nodes(self) -> list[tuple[Seen, NodeState]]:
        period = self._cluster.settings.heartbeat
        # A node tells the names of its tasks with every so many heartbeats.
        beats = heard(self._cluster, nodes_topic(self._topics), self._now - 2 * TASKS_EVERY * period)
        return roll(beats, now=self._now, period=period)

    @cached_property
    def _partitions(self) -> list[QueuePartition]:
        found, is_cut = queue_partitions(self._cluster, self._topics, self._layout)
        self._is_cut |= is_cut
        return found

    @cached_property
    def _delays(self) -> dict[str, DelayedMessage]:
        records, is_cut = delayed(self._cluster, self._topics, self._layout, MOST)
        self._is_cut |= is_cut
        return dict(each for record in records for each in delay_of(record))

    @cached_property
    def _letters(self) -> dict[str, Buried]:
        found, is_cut = buried(self._cluster, self._topics, self._layout)
        self._is_cut |= is_cut
        return found

    @cached_property
    def _suspensions(self) -> dict[str, Suspension]:
        return {each.task: each for each in suspensions(self._cluster, self._topics, self._layout)}

    @cached_property
    def _pauses(self) -> dict[str, QueuePauses]:
        return paused(self._cluster, self._topics, self._layout)

    @cached_property
    def _revoked(self) -> dict[str, float]:
        kept = self._now - self._cluster.settings.revoked_retention
        found: dict[str, float] = {}
        for record in everything(self._cluster, self._layout, self._topics.revoked):
            try:
                at = from_json(record.value())
            except ValueError:
                continue
            if record.key() is not None and isinstance(at, float) and at > kept:
                found[record.key().decode(errors="replace")] = at
        return found


def queue_partitions(cluster: Cluster, topics: Topics, layout: Layout) -> tuple[list[QueuePartition], bool]:
    """The partitions of all queues with their unfinished messages; and True if there are more messages than were read.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    queues = layout.queues(topics)
    names = {topic: name for (name, _), topic in queues.items()}
    found = unfinished(cluster, topics, layout, queues, _task_record)
    parked = {place: sorted(each.ledger.parked) for place, each in found.items() if each.ledger.parked}
    ends = {place: min(offsets[-1] + 1, offsets[0] + MOST) for place, offsets in parked.items()}
    more = read(cluster, {place: (parked[place][0], end) for place, end in ends.items()}, _task_record)
    is_cut = any(each.unread for each in found.values())
    is_cut |= any(parked[place][-1] >= end for place, end in ends.items())
    return [
        QueuePartition(names[place[0]], *place, each.ledger, [*more.get(place, ()), *each.records])
        for place, each in found.items()
    ], is_cut


def _task_record(record: Record) -> TaskRecord:
    found = TaskRecord(record.offset(), record.timestamp()[1] / 1000)
    try:
        message = decode(record.headers(), record.value())
        ticket = ticket_of(record.headers(), record.value(), record.topic(), record.partition())
    except Exception:  # a worker makes a dead letter of it
        return found
    task = message.task
    return found._replace(ticket=ticket, id=str(task.get("id") or ""), needed=needed(task), due=eta_of(message))


def delay_of(record: Record) -> Iterator[tuple[str, DelayedMessage]]:
    """The id of the task in a delayed message, and the message."""
    try:
        headers, rest = DelayHeaders.read(record.headers())
        task = decode(rest, record.value()).task
    except Undecodable:
        return  # its owner passes it over
    is_retry = bool(task.get("retries") or task.get(CONTINUATIONS))
    yield str(task.get("id")), DelayedMessage(headers.queue, record.partition(), headers.until, is_retry)
