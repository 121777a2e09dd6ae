"""What an ended task's error holds is let go before the next task begins, not when the garbage is collected.

An error that ends a task holds its traceback, that the frames, and one of these the error and Celery's copy of the
traceback (with Python 3.11 some 150 KB): a cycle. Celery clears the frames while those of its own still run, which is
refused, and leaves the copies of their variables that reading ``f_locals`` has made. The interpreter's collector counts
objects, not bytes, and leaves hundreds of such cycles for long, with all that the tasks' variables hold.
"""

from __future__ import annotations

import inspect
from collections import deque
from types import FrameType
from typing import Any

from celery import signals, states

from kafka_exec.settings.appconf import has_our_broker

#: Errors whose task's frames may still run. What is too many is left to the collector.
_ended: deque[BaseException] = deque(maxlen=10_000)

#: Clearing the frame of one of these ends it, which may be what drives a worker's event loop.
_RESUMABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE

#: The modules by whose frames a task's end comes to its pool.
_WAY_OUT = ("celery.app.trace", "celery.concurrency.")


@signals.task_postrun.connect(weak=False)
def remember(task: Any = None, retval: Any = None, state: str | None = None, **kwargs: Any) -> None:
    """Called when a task has ended, and its frames still run."""
    if state == states.SUCCESS or not isinstance(retval, BaseException):
        return
    if not task.request.is_eager and has_our_broker(task.app.conf):
        _ended.append(retval)


@signals.task_prerun.connect(weak=False)
def let_go(**kwargs: Any) -> None:
    """Called before a task begins, in any thread."""
    for _ in range(len(_ended)):
        try:
            error = _ended.popleft()
        except IndexError:
            return  # another thread was quicker
        if not clear(error):
            _ended.append(error)


def clear(error: BaseException) -> bool:
    """Empties the ended frames of a task's error, and those that have called them; the traceback stays readable.

    Returns:
        Whether the task's end has reached its pool. If not, there is more to empty later.
    """
    traceback = error.__traceback__
    frame = traceback and traceback.tb_frame
    while traceback is not None:
        _empty(traceback.tb_frame)
        traceback = traceback.tb_next
    while frame is not None and _empty(frame):
        frame = frame.f_back
    return frame is None or not str(frame.f_globals.get("__name__")).startswith(_WAY_OUT)


def _empty(frame: FrameType) -> bool:
    """Forgets a frame's variables, unless it still runs or can be resumed; whether it did."""
    if frame.f_code.co_flags & _RESUMABLE:
        return False
    try:
        frame.clear()
    except RuntimeError:
        return False
    # Reading them anew is what empties the copies that reading them before has made.
    frame.f_locals  # noqa: B018
    return True
