"""What is made of the client library's errors, and trying again while they pass."""

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

# Between two tries, seconds: short at first, for what was made a moment ago; then that of an outage.
_PAUSE = 0.02
_AT_FIRST = 1.0
_LATER_PAUSE = 0.2


def failure(error: KafkaError | KafkaException) -> Failure:
    """What an error means."""
    error = reason_of(error)
    return failure_of(error.name(), retriable=error.retriable(), fatal=error.fatal())


def reason_of(error: KafkaError | KafkaException) -> KafkaError:
    """The error itself, of one that may be wrapped to be raised."""
    found: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    return found


def remedy(error: KafkaError) -> str:
    """What may be done where access is refused."""
    if error.code() == KafkaError._SSL:
        return "check the certificates (broker_use_ssl)"
    return "check user name, password and mechanism"


def translate(error: KafkaError | KafkaException, what: str) -> KafkaExecError:
    """The error of ours that says who must act. ``what`` is what was tried."""
    error = reason_of(error)
    text = f"{what}: {error.str()}"
    # Whether the client is lost is not for who called it: why it is, may be.
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
    """A scope of a thread or greenlet in which nothing is tried for longer than so many seconds together."""
    token = _end.set(time.monotonic() + time_left(seconds))
    try:
        yield
    finally:
        _end.reset(token)


def time_left(most: float) -> float:
    """How long something may be tried, seconds: so long at most, and as the scope of :func:`within` says."""
    end = _end.get()
    return most if end is None else max(0.0, min(most, end - time.monotonic()))


def persist(
    act: Callable[[float], T],
    what: str,
    most: float,
    passing: Collection[Failure] = (Failure.PASSES,),
    between: Callable[[float], object] = lambda timeout: None,
) -> T:
    """Does something again while it fails for what passes. It blocks in C.

    Args:
        act: gets the seconds that it may take.
        what: is tried, for the error.
        most: the seconds for all tries, unless :func:`within` says less.
        passing: what passes.
        between: called between two tries with the seconds that it may take; its errors that pass are passed over.

    Raises:
        ConnectionFailed: it has failed for so long, for what passes.
        KafkaExecError: it cannot succeed.
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
