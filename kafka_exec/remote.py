"""Remote control of a worker's lanes: ``celery inspect ordering_keys`` and ``celery control unblock_ordering_key``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery.worker.control import control_command, inspect_command

from kafka_exec.core.lanes import Lane
from kafka_exec.kafka.queued import LaneView
from kafka_exec.transport.connection import Connection
from kafka_exec.transport.sources import WorkQueue


@inspect_command()  # type: ignore[untyped-decorator]
def ordering_keys(state: Any) -> list[dict[str, Any]]:
    """Keys whose tasks wait: for one of them that runs, for its retry, or for somebody's word."""
    return [_facts(queue.name, view) for queue in _queues(state) for view in queue.lanes() if view.lane.kind == "key"]


@control_command(args=[("key", str)], signature="<key>")  # type: ignore[untyped-decorator]
def unblock_ordering_key(state: Any, key: str) -> dict[str, list[str]]:
    """Lets a key's tasks go on that wait for a retry, or since one of them has failed."""
    return {"ok": [queue.name for queue in _queues(state) if queue.free(Lane("key", key))]}


def _queues(state: Any) -> Iterator[WorkQueue]:
    connection = state.consumer.connection.connection
    return iter(connection.queues() if isinstance(connection, Connection) else ())


def _facts(queue: str, view: LaneView) -> dict[str, Any]:
    hold = view.hold
    if hold is None:
        reason = "running" if view.runs else "waiting"
    else:
        reason = "stopped" if hold.is_stop else "running" if view.runs else "retry"
    return {
        **{"queue": queue, "key": view.lane.name, "waiting": view.waiting, "state": reason},
        "task": None if hold is None else hold.task_id,
    }
