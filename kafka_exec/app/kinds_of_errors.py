"""Kombu's exception types for our errors that reach users of Celery and Kombu.

So ``except OperationalError`` and Kombu's own error handling work as with any other transport. The module of our errors
imports nothing of Kombu, so their classes get Kombu's as further bases when kafka_exec is imported.
"""

from __future__ import annotations

from collections.abc import Mapping

from kombu import exceptions as kombu

from kafka_exec import errors

KINDS: Mapping[type[errors.KafkaExecError], tuple[type[Exception], ...]] = {
    errors.ConnectionFailed: (kombu.ConnectionError, kombu.OperationalError),
    errors.Forbidden: (kombu.OperationalError,),
    errors.NotConfirmed: (kombu.OperationalError,),
    errors.ChannelFailed: (kombu.ChannelError,),
    errors.ResultTooLarge: (kombu.EncodeError,),
    errors.Unwritable: (kombu.EncodeError,),
}


def join_kombus() -> None:
    """Adds Kombu's exception types to the bases of our errors. A second call changes nothing."""
    for ours, theirs in KINDS.items():
        if not issubclass(ours, theirs):
            ours.__bases__ += theirs
