"""The ordering keys whose tasks wait for one another, as the workers answer; and letting them go on."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

from kafka_exec.core.nodes.heartbeat import NodeState
from kafka_exec.errors import NotFound
from kafka_exec.operations.queues import kind_of, nodes

#: The states of a key that waits until an operator unblocks it, or a retry comes.
_BLOCKED = ("retry", "stopped")

#: The answers of the workers that are alive are waited for so long, seconds; one of them may have died a moment ago.
_TIMEOUT = 2.0

#: Workers are alive that were heard in so many hours, and a few heartbeats ago.
_HEARD_WITHIN = 1.0


def keys(app: Celery, *, blocked: bool = False) -> list[dict[str, Any]]:
    """The keys that have unfinished tasks, as JSON objects. ``blocked``: only those that wait for a retry, or were stopped.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    found = [
        {**each, "node": node}
        for node, told_by in _ask(app, "ordering_keys")
        if isinstance(told_by, list)
        for each in told_by
        if not blocked or each["state"] in _BLOCKED
    ]
    return sorted(found, key=lambda each: (each["queue"], each["key"]))


def unblock(app: Celery, key: str) -> list[str]:
    """Lets a key go on; the queues, with their workers, in which it was blocked.

    Raises:
        NotFound: no worker has unblocked the key.
    """
    answers = _ask(app, "unblock_ordering_key", key=key)
    done = [f"{queue} ({node})" for node, told_by in answers for queue in told_by.get("ok", ())]
    if not done:
        raise NotFound(f"no worker has tasks that wait for the key {key!r}, or none has answered")
    return done


def skip(app: Celery, key: str) -> tuple[list[str], list[str]]:
    """Revokes the task that a key waits for, and lets the key go on; the ids, and the queues as :func:`unblock` tells them.

    Raises:
        NotFound: no worker has unblocked the key.
    """
    awaited = sorted({each["task"] for each in keys(app, blocked=True) if each["key"] == key})
    if awaited:
        app.control.revoke(awaited, reply=True, timeout=_TIMEOUT, limit=len(_workers(app)))
    return awaited, unblock(app, key)


def _ask(app: Celery, command: str, **arguments: Any) -> list[tuple[str, Any]]:
    """The answers of the workers that are alive to a remote control command, each with its node; it waits no longer."""
    if not (workers := _workers(app)):
        return []
    answers = app.control.broadcast(command, arguments, destination=workers, reply=True, timeout=_TIMEOUT)
    return [each for answer in answers or [] for each in answer.items()]


def _workers(app: Celery) -> list[str]:
    """The names of the workers that are alive."""
    found = nodes(app, None, _HEARD_WITHIN, time.time())
    return [seen.name for seen, state in found if state is NodeState.ALIVE and kind_of(seen.beat) == "worker"]
