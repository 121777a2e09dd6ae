"""Errors that reach users of Celery and Kombu, made errors of Kombu's kinds too.

So ``except OperationalError`` and Kombu's own handling of errors work as with every other transport. The errors themselves
stand below all that knows Kombu: their classes get Kombu's as further bases when this package is imported.
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
    """Gives our errors Kombu's bases, once."""
    for ours, theirs in KINDS.items():
        if not issubclass(ours, theirs):
            ours.__bases__ += theirs
