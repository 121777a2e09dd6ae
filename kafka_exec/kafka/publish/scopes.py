"""Scopes of publishing: the messages of one are confirmed together, or captured for a transaction."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from confluent_kafka import KafkaError
from confluent_kafka import Message as Record

from kafka_exec.errors import ConnectionFailed, Forbidden, KafkaExecError, NotConfirmed
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import translate


class Waits(Protocol):
    """A publisher, as a scope needs it."""

    def wait(self, confirmation: Confirmation, until: int, timeout: float | None) -> None:
        """Waits until at most ``until`` messages of a confirmation are outstanding."""


class Confirmation:
    """The messages of one scope that wait for their acknowledgement.

    Attributes:
        offset: the offset of the last message that was acknowledged; None before the first.
    """

    def __init__(self) -> None:
        self.offset: int | None = None
        self.sent = 0
        self.settled = 0
        self.errors: list[KafkaExecError] = []
        self.publisher: Waits | None = None
        self._lock = native.lock()
        self._waker = native.Waker() if native.is_green() else None
        self._event = None if self._waker else threading.Event()

    @property
    def outstanding(self) -> int:
        return self.sent - self.settled

    def settle(self, error: KafkaError | None, record: Record) -> None:
        """Takes the delivery report of one message. Called in the thread that polls."""
        if error is not None:
            self.errors.append(publish_error(error, record.topic()))
        else:
            self.offset = record.offset()
        with self._lock:
            self.settled += 1
            complete = self.settled >= self.sent
        if complete:
            self.nudge()

    def nudge(self) -> None:
        """Wakes the thread or greenlet that waits."""
        if self._waker is not None:
            self._waker.wake()
        elif self._event is not None:
            self._event.set()

    def pause(self, timeout: float) -> None:
        """Waits for :meth:`nudge`."""
        if self._waker is not None:
            self._waker.wait(timeout)
        elif self._event is not None:
            self._event.wait(timeout)
            self._event.clear()

    def confirm(self, timeout: float | None = None) -> None:
        """Waits until every message sent so far is acknowledged.

        Raises:
            NotConfirmed: a message was not acknowledged in time (seconds; the publish timeout by default), or was refused.
        """
        if self.publisher is not None and self.outstanding:
            self.publisher.wait(self, 0, timeout)
        if self.errors:
            errors, self.errors = self.errors, []
            if self.sent == 1:
                raise errors[0]
            raise NotConfirmed(f"{len(errors)} of {self.sent} messages were not published; the first: {errors[0]}")

    def close(self) -> None:
        if self._waker is not None:
            self._waker.close()


_scope: contextvars.ContextVar[Confirmation | None] = contextvars.ContextVar("kafka_exec_confirmation", default=None)


@contextmanager
def confirmed() -> Iterator[Confirmation]:
    """A scope whose messages are sent without waiting and confirmed together at its end.

    The scope is that of the thread or greenlet; an inner scope confirms its own messages at its own end. When the block
    raises, its error goes on, and the messages that were sent stay sent.
    """
    confirmation = Confirmation()
    token = _scope.set(confirmation)
    try:
        yield confirmation
        confirmation.confirm()
    finally:
        _scope.reset(token)
        confirmation.close()


def scope() -> Confirmation | None:
    """The scope of :func:`confirmed` in which this code runs."""
    return _scope.get()


@contextmanager
def confirmed_with_others() -> Iterator[None]:
    """The scope of :func:`confirmed` that is under way, or else a new one."""
    if _scope.get() is not None:
        yield
        return
    with confirmed():
        yield


class Outgoing(NamedTuple):
    """A record that is to be published; without a partition its key decides."""

    topic: str
    value: bytes | None
    key: str | bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int | None = None


_captured: contextvars.ContextVar[list[Outgoing] | None] = contextvars.ContextVar("kafka_exec_captured", default=None)


@contextmanager
def captured() -> Iterator[list[Outgoing]]:
    """A scope of a thread or greenlet in which no record is published: the list gets them.

    Publishing returns at once there, so that code which knows only publishing can make records for a transaction.
    """
    records: list[Outgoing] = []
    token = _captured.set(records)
    try:
        yield records
    finally:
        _captured.reset(token)


@contextmanager
def uncaptured() -> Iterator[None]:
    """A scope within :func:`captured` in which records are published: those that must not depend on the transaction."""
    token = _captured.set(None)
    try:
        yield
    finally:
        _captured.reset(token)


def capture() -> list[Outgoing] | None:
    """The list of the scope of :func:`captured` in which this code runs."""
    return _captured.get()


def publish_error(error: KafkaError, topic: str | None) -> KafkaExecError:
    """The publisher's error for a record that was not taken, after the client has tried for the publish timeout."""
    translated = translate(error, f"publishing to {topic}")
    if error.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE):
        return NotConfirmed(f"publishing to {topic}: no acknowledgement of the broker in time")
    return NotConfirmed(str(translated)) if isinstance(translated, (ConnectionFailed, Forbidden)) else translated
