"""Running tasks now that wait in Kafka for their time, or for that of a retry."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from itertools import islice

from celery import Celery

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import delay_state_topic, nodes_topic
from kafka_exec.core.control.moved import Moved, encode_request
from kafka_exec.core.message.envelope import decode
from kafka_exec.core.queue.lanes import Run
from kafka_exec.errors import NotConfirmed, Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.overview.reading import layout_of
from kafka_exec.kafka.overview.unfinished import delayed, moved
from kafka_exec.settings.appconf import broker_home

#: The messages of runs that wait, by level and offset.
Places = Mapping[int, Mapping[int, Run]]

#: A record asks for so many messages at most.
_MOST = 10_000

#: The levels are looked at this often, and who drives them is asked this often, seconds: a new owner has not heard it.
_LOOK, _ASK = 0.2, 2.0

#: The longest time in which no message moves, seconds.
_PATIENCE = 20.0


def run_now(app: Celery, ids: Collection[str], on_gone: Callable[[int], None] = lambda count: None) -> int:
    """Has tasks that wait for their time, or for that of a retry, go to their queues at once. Durable when it returns.

    Args:
        on_gone: called with the number of those that have gone by now.

    Returns:
        The number of tasks that have gone. The others did not wait.

    Raises:
        ConnectionFailed: the cluster does not answer.
        NotConfirmed: nobody moves them; some may have gone.
    """
    space = broker_home(app)
    places = _waiting(space.cluster, space.topics, ids)
    wanted = {run for runs in places.values() for run in runs.values()}
    while places:
        _move(space.cluster, space.topics, places, on_gone)
        # One whose wait on a level was over meanwhile waits on another one. A later retry of a task is none of these.
        found = _waiting(space.cluster, space.topics, ids)
        chosen = {level: {at: run for at, run in runs.items() if run in wanted} for level, runs in found.items()}
        places = {level: runs for level, runs in chosen.items() if runs}
    return len({run.task_id for run in wanted})


def _waiting(cluster: Cluster, names: Topics, ids: Collection[str]) -> Places:
    found: dict[int, dict[int, Run]] = {}
    records, _ = delayed(cluster, names, layout_of(cluster))
    for record in records:
        with suppress(Undecodable):  # who moves it makes it a dead letter
            task = decode(record.headers(), record.value()).task
            task_id, retries = task.get("id"), task.get("retries")
            if isinstance(task_id, str) and task_id in ids:
                run = Run(task_id, retries if isinstance(retries, int) else 0)
                found.setdefault(record.partition(), {})[record.offset()] = run
    return found


def _move(cluster: Cluster, names: Topics, places: Places, on_gone: Callable[[int], None]) -> None:
    """Asks who drives the levels to move messages ahead of their time, until all are moved."""
    left = {level: set(offsets) for level, offsets in places.items()}
    total = count = sum(map(len, left.values()))
    asked, deadline = float("-inf"), time.monotonic() + _PATIENCE
    registry = nodes_topic(names)
    cluster.topics.ensure(registry, delay_state_topic(cluster.settings, names))
    layout = layout_of(cluster)
    while count:
        if (now := time.monotonic()) > deadline:
            raise NotConfirmed(
                f"{count} of {total} messages were not moved: run a worker, or celery kafka control-plane. If one runs: so "
                "many were moved ahead of others already that these must move first, at their time"
            )
        if now > asked + _ASK:
            asked = now
            cluster.publisher.send(registry.name, encode_request(_first(left)), key="request")
        native.sleep(_LOOK)
        known = moved(cluster, names, layout)
        for level, offsets in left.items():
            offsets -= {each for each in offsets if known.get(level, Moved()).has(each)}
        if (remaining := sum(map(len, left.values()))) < count:
            count, asked, deadline = remaining, float("-inf"), time.monotonic() + _PATIENCE
            on_gone(total - count)


def _first(left: Mapping[int, Collection[int]]) -> dict[int, list[int]]:
    """The messages to ask for next: the first ones of each level."""
    share = max(1, _MOST // len(left))
    return {level: list(islice(sorted(offsets), share)) for level, offsets in left.items() if offsets}
