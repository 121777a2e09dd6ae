"""Errors that threads go on from: each is logged once in a while, and counted, so that other processes can be told."""

from __future__ import annotations

import logging
import os
import time

from kafka_exec.core.nodes.faults import Faults, Told
from kafka_exec.core.record.plain import said
from kafka_exec.errors import ConnectionFailed, KafkaExecError
from kafka_exec.kafka.client import native

logger = logging.getLogger("kafka_exec")


class Setback(Exception):
    """An event that may happen to a thread, and that the error's text explains: no fault of the code."""


class Complaints:
    """The errors of one thread, or of several that do the same.

    Args:
        doing: the work of the threads; the lines begin with it, and :func:`faults` counts by it.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._told = Told()

    def tell(self, error: BaseException, then: str = "") -> None:
        """Logs an error, and counts it. An outage is left to the cluster's health, which has one line for all threads.

        Args:
            then: the end of the line: what the thread does about the error.
        """
        is_known = isinstance(error, (KafkaExecError, Setback))
        text = str(error) if is_known else said(error)
        line = f"{self._doing}: {text}{then}"
        if isinstance(error.__cause__ if isinstance(error, Setback) and error.__cause__ else error, ConnectionFailed):
            logger.debug(line)
            return
        _note(self._doing, text)
        self._log(line, None if is_known else error)

    def warn(self, text: str) -> None:
        """Logs a text of Kafka's about the work, which may tell of an outage too."""
        self._log(text, None)

    def _log(self, line: str, error: BaseException | None) -> None:
        is_news = self._told.is_news(line, time.monotonic())
        logger.log(logging.WARNING if is_news else logging.DEBUG, line, exc_info=error)


_faults = Faults()
_lock = native.lock()


def _note(doing: str, text: str) -> None:
    with _lock:
        _faults.note(doing, text, time.time())


def faults() -> Faults:
    """The errors that threads of this process have gone on from."""
    return _faults


def _after_fork_in_child() -> None:
    """Begins anew: the errors were the parent's, one of whose threads may have held the lock."""
    global _faults, _lock
    _faults, _lock = Faults(), native.lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
