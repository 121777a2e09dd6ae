"""The states of tasks that wait: for those of their ordering key before them, or for a worker that knows them."""

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
from kafka_exec.transport.connection import Connection

logger = logging.getLogger("kafka_exec")


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
