"""Pausing queues and ordering keys, and resuming them, from any process."""

from __future__ import annotations

import time
from typing import Any

from kafka_exec.core.queue.pausing import Pause
from kafka_exec.core.record.fields import an_id
from kafka_exec.errors import ConfigurationError, NoSuchQueue
from kafka_exec.kafka.overview.reading import layout_of
from kafka_exec.settings.appconf import broker_home
from kafka_exec.transport.namespace import Namespace


def pause_queue(
    app: Any, queue: str, *, by: str, key: str | None = None, reason: str = "", until: float | None = None
) -> Pause:
    """Pauses a queue, or one ordering key of it: its tasks begin in no worker. Those that run end.

    The pause is durable when this returns, and replaces a former one. Workers heed it as soon as they read it.

    Args:
        by: the name of the one who pauses it.
        key: only tasks with this ordering key.
        reason: a text for people.
        until: the pause ends by itself at this time, epoch seconds; None: :func:`resume_queue` must end it.

    Raises:
        ConfigurationError: the app's broker is not kafka-exec, or an argument is wrong.
        NoSuchQueue: there is no such queue.
        NotConfirmed, ConnectionFailed: the pause is not durable.
    """
    space = broker_home(app)
    _check(space, queue, key)
    now = time.time()
    if until is not None and until <= now:
        raise ConfigurationError("the time until which a pause lasts must be still to come")
    try:
        pause = Pause.read({"by": an_id(by, "the name of who pauses"), "at": now, "reason": reason, "until": until})
    except ValueError as error:
        raise ConfigurationError(f"this is no pause: {error}") from None
    space.bindings.pause(queue, key, pause)
    return pause


def resume_queue(app: Any, queue: str, *, key: str | None = None) -> bool:
    """Ends the pause of a queue, or of one ordering key of it, durably. Returns False if it was not paused.

    Raises:
        ConfigurationError: the app's broker is not kafka-exec, or an argument is wrong.
        NoSuchQueue: there is no such queue.
        NotConfirmed, ConnectionFailed: the end of the pause is not durable.
    """
    space = broker_home(app)
    _check(space, queue, key)
    pauses = space.bindings.pauses(queue)
    found: Pause | None = pauses.whole if key is None else pauses.keys.get(key)
    if found is None:
        return False
    space.bindings.resume(queue, key)
    return found.holds(time.time())


def _check(space: Namespace, queue: str, key: str | None) -> None:
    if not space.cluster.topics.partitions(space.topics.queue(queue), fresh=True):
        known = layout_of(space.cluster).queue_names(space.topics)
        raise NoSuchQueue(f"there is no queue {queue!r}; there are {', '.join(known) or 'none'}")
    if key is not None:
        an_id(key, "an ordering key")
