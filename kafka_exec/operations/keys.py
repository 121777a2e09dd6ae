"""The ordering keys whose tasks wait for one another, as the workers answer; and letting them go on."""

from __future__ import annotations

from typing import Any

from celery import Celery

from kafka_exec.errors import NotFound
from kafka_exec.settings.appconf import require_our_broker

#: The states of a key that waits until an operator unblocks it, or a retry comes.
_BLOCKED = ("retry", "stopped")

#: The workers' answers are waited for so long, seconds.
_TIMEOUT = 2.0


def keys(app: Celery, *, blocked: bool = False) -> list[dict[str, Any]]:
    """The keys that have unfinished tasks, as JSON objects. ``blocked``: only those that wait for a retry, or were stopped.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    require_our_broker(app)
    answers = app.control.broadcast("ordering_keys", reply=True, timeout=_TIMEOUT) or []
    found = [
        {**each, "node": node}
        for answer in answers
        for node, told_by in answer.items()
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
    require_our_broker(app)
    arguments = {"key": key}
    answers = app.control.broadcast("unblock_ordering_key", arguments=arguments, reply=True, timeout=_TIMEOUT)
    done = [
        f"{queue} ({node})"
        for answer in answers or []
        for node, told_by in answer.items()
        for queue in told_by.get("ok", ())
    ]
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
        app.control.revoke(awaited, reply=True, timeout=_TIMEOUT)
    return awaited, unblock(app, key)
