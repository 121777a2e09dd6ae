"""The runs of tasks, counted in the log: what a task remembers, or a worker, does not count."""

from __future__ import annotations

from typing import Any, NamedTuple

from celery import Celery
from confluent_kafka import Message as Record

from kafka_exec.core.message.envelope import ORDERING_KEY, decode
from kafka_exec.core.queue.transitions import ENDED, STARTED, object_of, transitions_of
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.cluster.admin import TIMEOUT, administration
from kafka_exec.kafka.overview.reading import layout_of, read, spans
from kafka_exec.settings.appconf import broker_home


class QueuedTask(NamedTuple):
    """A message of a task, and what the journal tells of it.

    Attributes:
        place: its topic, partition and offset.
        runs: how often it was begun.
        ended: True if its end is told.
    """

    place: tuple[str, int, int]
    id: str
    task: str
    key: str | None
    runs: int
    ended: bool

    def __str__(self) -> str:
        topic, partition, offset = self.place
        what = "has ended" if self.ended else "has not ended"
        return f"{self.task} {self.id} at {topic}[{partition}]@{offset}: begun {self.runs} times, {what}"


def messages(app: Celery) -> list[QueuedTask]:
    """The messages of all tasks that were sent under the app's prefix, in the order of each partition.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    space = broker_home(app)
    cluster, names = space.cluster, space.topics
    layout = layout_of(cluster)
    topics = layout.queues(names)
    journals = {names.journal(*place): topic for place, topic in topics.items()}
    with within(TIMEOUT), administration(cluster) as admin:
        begins, ends = spans(admin, layout.places(*topics.values(), *journals))
    records = read(cluster, {place: (begins[place], end) for place, end in ends.items()}, lambda record: record)
    ids = cluster.topics.identities(list(topics.values()))
    begun: dict[tuple[str, int, int], int] = {}
    ended = set()
    for (topic, partition), told in records.items():
        if topic not in journals:
            continue
        queue = journals[topic]
        for found in (object_of(each.value()) for each in told):
            for transition, _ in transitions_of(found) if found.get("queue") == ids[queue] else ():
                place = (queue, partition, transition.offset)
                if transition.kind in (STARTED, ENDED):
                    begun[place] = max(transition.attempt, begun.get(place, 0))
                if transition.kind == ENDED:
                    ended.add(place)
    return [
        QueuedTask(place, *task, begun.get(place, 0), place in ended)
        for (topic, partition), sent in records.items()
        if topic not in journals
        for record in sent
        if (task := _task(record)) is not None
        for place in [(topic, partition, record.offset())]
    ]


def _task(record: Record) -> tuple[str, str, str | None] | None:
    try:
        facts = decode(record.headers(), record.value()).task
    except Undecodable:
        return None
    key = facts.get(ORDERING_KEY)
    return str(facts.get("id")), str(facts.get("task")), None if key is None else str(key)


def assert_ran_once(app: Celery, task: Any, key: str | None = None) -> None:
    """Asserts that a task was begun once, by the journal, and has ended. A retry is a further run.

    Args:
        task: a result or an id; or a task or its name, of which exactly one must have been sent.
        key: only tasks with this ordering key.
    """
    wanted = {task if isinstance(task, str) else getattr(task, "id", None) or task.name}
    found = [each for each in messages(app) if {each.id, each.task} & wanted and key in (None, each.key)]
    runs = sum(each.runs for each in found)
    if runs != 1 or not all(each.ended for each in found):
        told = "".join(f"\n  {each}" for each in found) or "\n  no message of it was sent"
        raise AssertionError(f"{wanted.pop()} was begun {runs} times, and should have run once:{told}")
