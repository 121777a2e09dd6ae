"""Questions about tasks: their states, their histories, and why one does not run."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from celery import Celery

from kafka_exec.backend import KafkaBackend
from kafka_exec.backend.housekeeping import lost
from kafka_exec.core.control.waiting import Suspension
from kafka_exec.core.durable.trail import Happening
from kafka_exec.core.overview.choosing.filters import TaskFilter, changed, parts
from kafka_exec.core.overview.why import Answer
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import NotFound, NotInKafka
from kafka_exec.kafka.overview.reading import layout_of
from kafka_exec.kafka.overview.suspensions import suspensions
from kafka_exec.kafka.overview.why import why
from kafka_exec.kafka.results.trail import read_trail
from kafka_exec.settings.appconf import broker_home, is_our_url

#: A canvas is followed so deep: a task may send itself for ever.
_DEEPEST = 50

#: Called with the number of what is read, and of what there is to read.
OnProgress = Callable[[int, int], None]


class Branch(NamedTuple):
    """A task in the tree of tasks that one has sent."""

    depth: int
    id: str
    name: str | None
    state: str


class Listing(NamedTuple):
    """The latest of the tasks that a filter chooses.

    Attributes:
        records: their state records, the latest first.
        lost: the ids of those that run, and whose workers are lost.
        matching: the number of all that the filter chooses.
    """

    records: list[StateRecord]
    lost: frozenset[str]
    matching: int

    def facts(self) -> list[dict[str, Any]]:
        """The tasks as JSON objects."""
        return [{**each.as_json(), **({"lost": True} if each.id in self.lost else {})} for each in self.records]


def result_backend(app: Celery) -> KafkaBackend:
    """The application's result back end.

    Raises:
        NotInKafka: the back end is not kafka-exec.
    """
    chosen = app.backend_cls or app.conf.result_backend
    try:
        backend = app.backend
    except Exception:
        if is_our_url(chosen):
            raise
        backend = None  # this back end cannot even be made here, as django-db outside Django
    if isinstance(backend, KafkaBackend):
        return backend
    if not chosen or chosen == "disabled":
        raise NotInKafka(
            "the application has no kafka-exec:// result backend: name the application with celery -A APP, or its backend "
            "with celery --result-backend URL"
        )
    name = chosen.partition("://")[0] if isinstance(chosen, str) else getattr(chosen, "__name__", str(chosen))
    raise NotInKafka(f"the results are in {name}, not in Kafka: only those in Kafka are read here")


def task(app: Celery, task_id: str) -> StateRecord:
    """The state of a task, with all its errors and remarks.

    Raises:
        NotFound: the task has no state.
    """
    return _known(result_backend(app).history(task_id), task_id)


def remark(app: Celery, task_id: str, text: str, by: str) -> None:
    """Adds a remark by an author (``by``) to a task; its state stays as it is.

    Raises:
        NotFound: the task has no state.
    """
    backend = result_backend(app)
    _known(backend.reader.find(task_id), task_id)
    backend.remark(task_id, text, by)


def choose(app: Celery, chosen: TaskFilter, on_progress: OnProgress | None = None) -> Iterator[StateRecord]:
    """The state records of the tasks that a filter chooses, in no order.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    return filter(chosen.matches, result_backend(app).reader.scan(on_progress, chosen.since, chosen.glance()))


def latest(
    app: Celery, chosen: TaskFilter, limit: int, on_progress: OnProgress | None = None, *, offset: int = 0
) -> Listing:
    """The latest of the tasks that a filter chooses, so many at most.

    Args:
        offset: so many, the very latest, are left out.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    matching = 0

    def wanted() -> Iterator[StateRecord]:
        nonlocal matching
        for record in choose(app, chosen, on_progress):
            matching += 1
            yield record

    latest_ones = heapq.nlargest(offset + limit, wanted(), key=lambda record: (changed(record), record.id))
    found = latest_ones[offset:]
    return Listing(found, frozenset(record.id for record in lost(result_backend(app), found)), matching)


def counted(app: Celery, chosen: TaskFilter, by: str, on_progress: OnProgress | None = None) -> list[tuple[str, int]]:
    """The numbers of the tasks that a filter chooses, by one of their parts, the largest number first.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    return Counter(str(parts(record).get(by, "")) for record in choose(app, chosen, on_progress)).most_common()


def history(app: Celery, task_id: str) -> tuple[StateRecord, list[Happening]]:
    """The state of a task, and all that has happened to it, in order.

    Raises:
        NotFound: the task has no state.
    """
    backend = result_backend(app)
    found = _known(backend.reader.find(task_id), task_id)
    return found, read_trail(backend.space.cluster, backend.space.topics, backend.notes, found)


def tree(app: Celery, task_id: str) -> Iterator[Branch]:
    """A task and all that it has sent, directly or not.

    Raises:
        NotFound: the task has no state.
    """
    backend = result_backend(app)
    return _tree(backend, _known(backend.reader.find(task_id), task_id), 0, set())


def reason(app: Celery, task_id: str, now: float) -> Answer:
    """The reason why a task does not run. ``now``: epoch seconds.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    space = broker_home(app)
    try:
        find = result_backend(app).history
    except NotInKafka:
        find = None
    return why(space.cluster, space.topics, find, task_id, now)


def suspended(app: Celery) -> list[Suspension]:
    """The tasks that wait for callbacks, the oldest first.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    space = result_backend(app).space
    return sorted(suspensions(space.cluster, space.topics, layout_of(space.cluster)), key=lambda each: each.created)


def _known(found: StateRecord | None, task_id: str) -> StateRecord:
    if found is None:
        raise NotFound(f"nothing is known of task {task_id}")
    return found


def _tree(backend: Any, record: StateRecord, depth: int, seen: set[str]) -> Iterator[Branch]:
    if record.id in seen or depth > _DEEPEST:
        return
    seen.add(record.id)
    yield Branch(depth, record.id, record.name, record.state.value)
    for child in _ids(record.children):
        if (found := backend.reader.find(child)) is not None:
            yield from _tree(backend, found, depth + 1, seen)


def _ids(children: Any) -> Iterator[str]:
    """The task ids in Celery's nested lists of children: ``[[id, parent], results]``."""
    for each in children or ():
        if not isinstance(each, list) or len(each) != 2:
            continue
        (head, inner) = each
        if isinstance(head, list) and head and isinstance(head[0], str) and not inner:
            yield head[0]
        yield from _ids(inner)
