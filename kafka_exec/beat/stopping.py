"""Signals that end a beat: handlers that let it end in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


def exit_now(*args: Any) -> NoReturn:
    """Ends the process in order; a signal's handler."""
    raise SystemExit


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Has signals only end the beat within the block.

    Celery's handler closes the scheduler, and makes one first if there is none. If the signal comes while the scheduler is
    being made, the handler would make a second one, and wait for ever for the locks of the first one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # beat is embedded in a process whose signals are not its own
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = [signal.signal(number, exit_now) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
