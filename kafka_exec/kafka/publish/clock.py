"""The time by which messages are sent: the machine's, or that of the log if a worker knows that the machine's is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_offset: ContextVar[float | None] = ContextVar("kafka_exec_log_offset", default=None)


def now() -> float:
    """The time, epoch seconds."""
    offset = _offset.get()
    return time.time() if offset is None else time.monotonic() + offset


@contextmanager
def by_the_log(offset: float | None) -> Iterator[None]:
    """Sends messages by the log's clock, which is so many seconds ahead of the monotonic one; None: by the machine's."""
    token = _offset.set(offset)
    try:
        yield
    finally:
        _offset.reset(token)
