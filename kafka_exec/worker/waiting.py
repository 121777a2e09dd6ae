"""What is told of tasks that wait: for their time, for those of their ordering key before them, or for who knows them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from celery.app.task import Context

from kafka_exec.backend import KafkaBackend
from kafka_exec.core.message.envelope import RECORD_HEADER, decode
from kafka_exec.core.message.taskmessage import check
from kafka_exec.core.results.lifecycle import State
from kafka_exec.errors import KafkaExecError, Undecodable
from kafka_exec.kafka.client.failures import within
from kafka_exec.transport.connection import Connection

logger = logging.getLogger("kafka_exec")


def tell_scheduled(app: Any, name: str, due: float, options: Mapping[str, Any]) -> None:
    """Tells that a task with these options of ``send_task`` is about to be sent, and is to begin later.

    Retries are told by who asks for them, and of what has no result nothing is.

    Raises:
        ConnectionFailed, Forbidden: the topic of the states is not found.
    """
    task = options.get("task_type") or app._tasks.get(name)
    is_ignored = options.get("ignore_result")
    if is_ignored is None:
        is_ignored = app.conf.task_ignore_result if task is None else task.ignore_result
    if is_ignored or options.get("retries") or not isinstance(app.backend, KafkaBackend):
        return
    told = {"task": name, "id": options["task_id"], **(options.get("headers") or {})}
    told |= {field: options.get(field) for field in ("parent_id", "root_id")}
    with within(app.backend.space.settings.publish_timeout):
        app.backend.tell_waiting(Context(told), State.SCHEDULED, due=due)


def tell(app: Any, headers: Mapping[str, Any], state: State, position: int | None = None, **delivery_info: Any) -> None:
    """Tells that the task with these message headers waits, if the app has states."""
    if not isinstance(app.backend, KafkaBackend):
        return
    try:
        app.backend.tell_waiting(Context(headers, delivery_info=delivery_info), state, position=position)
    except KafkaExecError as error:  # it is told for those who look on; the task is not lost for it
        logger.debug("that task %s waits is not told: %s", headers.get("id"), error)


def tell_newcomers(app: Any, connection: Connection) -> None:
    """Tells of the tasks that wait for others of their ordering key, and did not when it was called before."""
    for queue in connection.queues():
        for each, work in queue.newcomers():
            place = {
                "topic": work.topic,
                "partition": work.partition,
                "offset": each.offset,
                "timestamp": each.timestamp,
            }
            try:
                headers = {**decode(each.headers, b"").headers, RECORD_HEADER: place}
                check(headers)
            except Undecodable:
                continue  # who decodes it says so
            tell(app, headers, State.GROUP, each.place, routing_key=queue.name)
