"""A worker's timer for tasks with a time: it begins them when the log says so, whatever the machine's clock does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka_exec.core.control.delay import hold_for


class LogTimer:
    """Celery's timer as the strategies of tasks see it.

    Args:
        timer: Celery's timer.
        log_time: returns the time by the log's clock, epoch seconds; None if it is not known yet.
    """

    def __init__(self, timer: Any, log_time: Callable[[], float | None]) -> None:
        self._timer = timer
        self._log_time = log_time

    def call_at(
        self,
        eta: float,
        fun: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> Any:
        """Has a function called when the log's time has come to a task's.

        Args:
            eta: the task's time, which Celery has turned into seconds of the monotonic clock by the machine's clock of now.
        """
        due = eta - time.monotonic() + time.time()  # in this order: a pause between the two makes no task early
        return self.call_when_due(due, fun, args, kwargs, priority)

    def call_when_due(
        self,
        due: float,
        fun: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> Any:
        """Has a function called when the log's time has come to a task's. ``due``: epoch seconds."""

        def look(*args: Any, **kwargs: Any) -> None:
            wait = hold_for(due, self._log_time())
            if wait > 0:
                self._timer.enter_after(wait, entry, priority)
            else:
                fun(*args, **kwargs)

        entry = self._timer.Entry(look, args, kwargs)
        return self._timer.enter_after(max(0.0, hold_for(due, self._log_time())), entry, priority)
