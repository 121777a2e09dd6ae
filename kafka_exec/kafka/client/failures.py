"""Errors of the client library: their meanings, the errors of ours that they become, and tries while they pass."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from kafka_exec.core.cluster.failures import Failure, failure_of
from kafka_exec.errors import (
    AccessRefused,
    ChannelFailed,
    ConnectionFailed,
    Forbidden,
    KafkaExecError,
    MessageTooLarge,
)
from kafka_exec.kafka.client import native

T = TypeVar("T")

#: How long one request may take before it is made again, seconds: one that a broker has lost is never answered.
REQUEST_TIMEOUT = 3.0

# The pause between two tries, seconds: short at first, for topics that were made a moment ago; later that for an outage.
_PAUSE = 0.02
_AT_FIRST = 1.0
_LATER_PAUSE = 0.2


def failure(error: KafkaError | KafkaException) -> Failure:
    """The meaning of an error."""
    error = reason_of(error)
    return failure_of(error.name(), retriable=error.retriable(), fatal=error.fatal())


def reason_of(error: KafkaError | KafkaException) -> KafkaError:
    """The error itself, which an exception may wrap."""
    found: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    return found


def remedy(error: KafkaError) -> str:
    """The remedy to try if access is refused."""
    if error.code() == KafkaError._SSL:
        return "check the certificates (broker_use_ssl)"
    return "check user name, password and mechanism"


def translate(error: KafkaError | KafkaException, what: str) -> KafkaExecError:
    """The error of ours that says who must act. ``what`` names the action that has failed."""
    error = reason_of(error)
    text = f"{what}: {error.str()}"
    # The caller need not know that the client is lost, but may have to know why.
    match failure_of(error.name(), retriable=error.retriable()):
        case Failure.REFUSED:
            return AccessRefused(f"{text}: {remedy(error)}")
        case Failure.FORBIDDEN:
            return Forbidden(f"{text.rstrip('.')}: an administrator of the cluster must allow it to this user")
        case Failure.TOO_LARGE:
            return MessageTooLarge(text)
        case Failure.WRONG | Failure.MISSING:
            return ChannelFailed(text)
        case _:
            return ConnectionFailed(text)


_end: contextvars.ContextVar[float | None] = contextvars.ContextVar("kafka_exec_end", default=None)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """A scope of a thread or greenlet in which all tries together take so many seconds at most."""
    token = _end.set(time.monotonic() + time_left(seconds))
    try:
        yield
    finally:
        _end.reset(token)


def time_left(most: float) -> float:
    """The seconds left for tries: ``most``, or less if a scope of :func:`within` says so."""
    end = _end.get()
    return most if end is None else max(0.0, min(most, end - time.monotonic()))


def persist(
    act: Callable[[float], T],
    what: str,
    most: float,
    passing: Collection[Failure] = (Failure.PASSES,),
    between: Callable[[float], object] = lambda timeout: None,
) -> T:
    """Repeats an action while it fails with errors that pass. It blocks in C.

    Args:
        act: the action; gets the seconds that it may take.
        what: names the action, for the error.
        most: the seconds for all tries, unless :func:`within` says less.
        passing: the kinds of errors that pass.
        between: called between two tries with the seconds that it may take; its errors that pass are ignored.

    Raises:
        ConnectionFailed: the action has failed for so long with errors that pass.
        KafkaExecError: the action cannot succeed.
    """
    began = time.monotonic()
    deadline = began + time_left(most)
    while True:
        try:
            return act(max(_PAUSE, min(REQUEST_TIMEOUT, deadline - time.monotonic())))
        except KafkaException as error:
            if failure(error) not in passing:
                raise translate(error, what) from None
            pause = _PAUSE if time.monotonic() < began + _AT_FIRST else _LATER_PAUSE
            if time.monotonic() + pause > deadline:
                raise ConnectionFailed(f"{what}: {reason_of(error).str()}") from None
        native.sleep(pause)
        try:
            between(max(_PAUSE, min(REQUEST_TIMEOUT, deadline - time.monotonic())))
        except KafkaException as error:
            if failure(error) not in passing:
                raise translate(error, what) from None
