"""Waiting until nothing is left to do under a prefix: by the logs, which no worker need tell of."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.record.fields import digits
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.cluster.admin import TIMEOUT, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.cluster.logreader import Sink
from kafka_exec.kafka.control.partition import POSITION
from kafka_exec.kafka.overview.reading import Layout, Place, everything, layout_of
from kafka_exec.kafka.overview.suspensions import suspensions
from kafka_exec.kafka.overview.unfinished import delayed
from kafka_exec.kafka.overview.why import delay_of, queue_partitions

#: Topics are looked for again after so many seconds without a record: a task may have made a queue.
_LOOK = 0.5


class Remaining(NamedTuple):
    """The work that has not ended under a prefix.

    Attributes:
        tasks: the ids of tasks that run, wait in a queue or for their time, or sleep; empty ids: messages that are no tasks.
        commands: the number of commands that the control plane has not taken.
    """

    tasks: list[str]
    commands: int

    def __bool__(self) -> bool:
        return bool(self.tasks or self.commands)


def wait_until_idle(cluster: Cluster, topics: Topics, timeout: float) -> Remaining:
    """Waits until all messages of a prefix have ended, and those that they have sent. Returns what is left in the end.

    A task that waits for a callback is idle: another program resumes it.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    changed = threading.Event()
    heard: set[Place] = set()

    def hear(record: object) -> None:
        changed.set()

    deadline = time.monotonic() + timeout
    try:
        while True:
            _listen(cluster, topics, heard, hear)
            changed.clear()
            before = _ends(cluster, topics)
            found = remaining(cluster, topics)
            # A message may have moved into a topic that was read by then.
            if not found and _ends(cluster, topics) == before:
                return found
            if (left := deadline - time.monotonic()) <= 0:
                return found
            if found:
                changed.wait(min(left, _LOOK))
    finally:
        cluster.log.unsubscribe(hear)


def remaining(cluster: Cluster, topics: Topics) -> Remaining:
    """The work that has not ended now.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    layout = layout_of(cluster)
    commands = _untaken(cluster, topics, layout)
    found = [each.task for each in suspensions(cluster, topics, layout) if not each.expected]
    found += [task for record in delayed(cluster, topics, layout)[0] for task, _ in delay_of(record)]
    found += [record.id for each in queue_partitions(cluster, topics, layout)[0] for record in each.waiting_or_running]
    return Remaining(list(dict.fromkeys(found)), commands)


def _watched(cluster: Cluster, topics: Topics) -> list[TopicPartition]:
    """The partitions in which work comes and ends."""
    single = {topics.control, topics.control_state, topics.delay, topics.delay_state}
    layout = layout_of(cluster)
    names = (
        name
        for name in layout.counts
        if name in single or topics.queue_of(name) is not None or topics.queue_of_journal(name) is not None
    )
    return layout.places(*names)


def _listen(cluster: Cluster, topics: Topics, heard: set[Place], hear: Sink) -> None:
    new: dict[str, list[int]] = {}
    for each in _watched(cluster, topics):
        if (each.topic, each.partition) not in heard:
            new.setdefault(each.topic, []).append(each.partition)
            heard.add((each.topic, each.partition))
    for topic, partitions in new.items():
        cluster.log.subscribe(topic, partitions, hear)


def _ends(cluster: Cluster, topics: Topics) -> dict[Place, int]:
    with within(TIMEOUT), administration(cluster) as admin:
        return admin.offsets(_watched(cluster, topics), OffsetSpec.latest())


def _untaken(cluster: Cluster, topics: Topics, layout: Layout) -> int:
    """The number of commands that the control plane has not taken."""
    with within(TIMEOUT), administration(cluster) as admin:
        ends = admin.offsets(layout.places(topics.control), OffsetSpec.latest())
    taken = dict.fromkeys((partition for _, partition in ends), 0)
    for record in everything(cluster, layout, topics.control_state):
        if record.key() == POSITION.encode():
            taken[record.partition()] = digits(record.value())
    return sum(max(0, end - taken[partition]) for (_, partition), end in ends.items())
