"""The status and the line of text by which the API answers an error."""

from __future__ import annotations

from celery.exceptions import ImproperlyConfigured
from kombu.exceptions import EncodeError, OperationalError

from kafka_exec.errors import (
    ChannelFailed,
    ConfigurationError,
    ConnectionFailed,
    Forbidden,
    KafkaExecError,
    MessageTooLarge,
    NoSuchQueue,
    NotConfirmed,
    NotFound,
    NotInKafka,
    NotReplayable,
    WrongState,
)

#: An answer shows so many characters of an error.
_LONGEST = 1000

#: The statuses of errors; the first kind that fits counts.
STATUSES: tuple[tuple[tuple[type[BaseException], ...], int], ...] = (
    ((NotFound, NoSuchQueue), 404),
    ((WrongState, NotReplayable), 409),
    ((MessageTooLarge,), 413),
    ((NotInKafka, ImproperlyConfigured), 501),
    ((ConnectionFailed, NotConfirmed, Forbidden, OperationalError), 503),
    ((ConfigurationError, ChannelFailed, EncodeError), 400),
    ((KafkaExecError,), 500),
)


def status_of(error: BaseException) -> int | None:
    """The status of an error; None: nobody foresaw it, and its text may hold anything."""
    return next((status for kinds, status in STATUSES if isinstance(error, kinds)), None)


def line_of(error: BaseException) -> str:
    """The text of an error in one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
