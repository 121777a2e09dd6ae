"""Replays of the tasks of a queue into another one."""

from __future__ import annotations

from typing import Any

from celery import Celery

from kafka_exec.core.message.copies import Replay
from kafka_exec.core.overview.choosing.messages import MessageFilter
from kafka_exec.errors import ConfigurationError
from kafka_exec.kafka.overview.replays import Replayer, TaskCopy
from kafka_exec.settings.appconf import broker_home


def replayer(
    app: Celery,
    queue: str,
    replay: Replay,
    chosen: MessageFilter,
    since: float,
    until: float,
    *,
    in_place: bool = False,
) -> Replayer:
    """The replay of the tasks that were sent to a queue in some time.

    Args:
        since, until: sent from then on, and before then, epoch seconds.
        in_place: the copies may go to the queue itself.

    Raises:
        ConfigurationError: the copies would go to the queue itself.
        NoSuchQueue: one of the two queues does not exist.
        ConnectionFailed: the cluster does not answer.
    """
    if replay.queue == queue and not in_place:
        raise ConfigurationError(f"the copies would go to {queue} itself, beside the tasks of its users")
    space = broker_home(app)
    return Replayer(
        space.cluster, space.topics, queue, replay, chosen, since, until, lambda: space.keys_over(replay.queue)
    )


def copy_facts(copy: TaskCopy) -> dict[str, Any]:
    """A copy as a JSON object. ``sent``: when its original was, epoch seconds."""
    headers = copy.message.headers
    return {
        "sent": copy.at,
        "name": headers["task"],
        "key": headers.get("ordering_key"),
        "id": copy.original,
        "copy": headers["id"],
    }
