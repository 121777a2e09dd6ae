"""The states of waiting tasks: they wait for tasks of their ordering key, or for a worker that knows them."""

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
    """Writes the state of the waiting task with these message headers, if the app keeps states."""
    if not isinstance(app.backend, KafkaBackend):
        return
    try:
        app.backend.tell_waiting(Context(headers, delivery_info=delivery_info), state, position=position)
    except KafkaExecError as error:  # the state is only information: the task is not lost without it
        logger.debug("that task %s waits is not told: %s", headers.get("id"), error)


def tell_newcomers(app: Any, connection: Connection) -> None:
    """Writes the states of tasks that have begun to wait for others of their ordering key since the last call."""
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
                continue  # the worker that decodes the message logs it
            tell(app, headers, State.GROUP, each.place, routing_key=queue.name)
