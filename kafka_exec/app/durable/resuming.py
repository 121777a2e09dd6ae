"""Resuming suspended tasks, from any process."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any, NamedTuple

from celery import current_app
from celery.exceptions import TimeoutError as NoResult

from kafka_exec.backend import KafkaBackend
from kafka_exec.core.control.wait_table import WaitOutcome
from kafka_exec.core.record.fields import an_id
from kafka_exec.errors import ConfigurationError, KafkaExecError

logger = logging.getLogger("kafka_exec")

#: After this time without an answer its caller asks again, seconds: who drove the control plane may have been killed.
_PATIENCE = 2.0


class Resumed(NamedTuple):
    """The outcome of a callback.

    Attributes:
        outcome: ``continued``: it was the last one, and the task goes on; ``counted``: further ones are expected;
            ``already``: a callback with this id has come before, or the task was continued before; ``kept``: no task is
            suspended with this correlation id yet, and the callback waits for it; ``unexpected``: the task does not expect
            a callback with this id; ``too late``: the suspension has timed out; ``sent``: the callback is safe in Kafka,
            and no control plane has answered in time.
        got: the number of callbacks that have come; of a suspension that was continued before, 0.
        expected: the number of callbacks that are expected; 0: it is not known yet.
    """

    outcome: str
    got: int = 0
    expected: int = 0


def resume(
    app: Any, correlation_id: str, data: Any = None, callback_id: str | None = None, *, timeout: float = 10.0
) -> Resumed:
    """Resumes the task that is suspended with a correlation id, or will be. The callback is durable when this returns.

    A second call with the same ids changes nothing.

    Args:
        app: the application, or None: the current one.
        data: the value that the task gets; the serializer of results serializes it.
        callback_id: tells the callbacks of one suspension apart, if it expects several.
        timeout: seconds for which the answer of the control plane is waited for.

    Raises:
        ConfigurationError: the application has no kafka-exec result back end, or an id is wrong.
        EncodeError: the data cannot be serialized.
        NotConfirmed, MessageTooLarge, ConnectionFailed: the callback is not durable.
    """
    app = app or current_app
    backend = app.backend
    if not isinstance(backend, KafkaBackend):
        raise ConfigurationError("the application has no kafka-exec:// result backend, which resume() needs")
    an_id(correlation_id, "a correlation id")
    if callback_id:
        an_id(callback_id, "a callback id")
    reply = f"resume-{uuid.uuid4()}"
    result = app.AsyncResult(reply)
    backend.result_consumer.note_sent(reply)
    backend.call_back(correlation_id, callback_id or "", backend.text_of(data), reply)
    deadline = time.monotonic() + timeout
    try:
        while (left := deadline - time.monotonic()) > 0:
            try:
                outcome, got, expected = result.get(timeout=min(left, _PATIENCE), disable_sync_subtasks=False)
                return Resumed(WaitOutcome(outcome).value, got, expected)
            except NoResult:
                if left > _PATIENCE:
                    _ask_again(backend, correlation_id, reply)
    finally:
        backend.result_consumer.cancel_for(reply)
    return Resumed("sent")


def _ask_again(backend: KafkaBackend, correlation_id: str, reply: str) -> None:
    try:
        backend.ask_again(correlation_id, reply)
    except KafkaExecError as error:
        logger.debug("what came of a callback of %s is not asked yet: %s", correlation_id, error)
