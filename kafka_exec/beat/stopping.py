"""How signals end a beat."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


def exit_now(*args: Any) -> NoReturn:
    """A signal's handler: ends the process in order."""
    raise SystemExit


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within it, a signal that is to end the beat only does that.

    Celery's handler closes the scheduler, which it makes first if there is none. In the midst of its making it would make
    a second one, and wait for ever for what the first one has locked.
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
