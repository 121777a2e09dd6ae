"""The memory of a failed task's error: it is released before the next task begins, not only by the garbage collector.

An error holds its traceback, the traceback its frames, and one of the frames the error and Celery's copy of the traceback
(some 150 KB with Python 3.11): a cycle. Celery clears the frames too, but while its own frames still run, which Python
refuses, and it leaves the copies of variables that reading ``f_locals`` has made. Python's garbage collector counts objects,
not bytes, so it leaves hundreds of such cycles for long, with all that the tasks' variables hold.
"""

from __future__ import annotations

import inspect
from collections import deque
from types import FrameType
from typing import Any

from celery import signals, states

from kafka_exec.settings.appconf import has_our_broker

#: Errors of tasks whose frames may still run. If there are too many, the oldest are left to the garbage collector.
_ended: deque[BaseException] = deque(maxlen=10_000)

#: Kinds of code whose frames must not be cleared: that would end a generator or coroutine, perhaps the worker's event loop.
_RESUMABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE

#: The modules of the frames between a task and its pool.
_WAY_OUT = ("celery.app.trace", "celery.concurrency.")


@signals.task_postrun.connect(weak=False)
def remember(task: Any = None, retval: Any = None, state: str | None = None, **kwargs: Any) -> None:
    """Remembers the error of a task that has failed. Celery calls this while the task's frames still run."""
    if state == states.SUCCESS or not isinstance(retval, BaseException):
        return
    if not task.request.is_eager and has_our_broker(task.app.conf):
        _ended.append(retval)


@signals.task_prerun.connect(weak=False)
def let_go(**kwargs: Any) -> None:
    """Releases the errors of earlier tasks. Celery calls this before a task begins, in any thread."""
    for _ in range(len(_ended)):
        try:
            error = _ended.popleft()
        except IndexError:
            return  # another thread has taken the last one
        if not clear(error):
            _ended.append(error)


def clear(error: BaseException) -> bool:
    """Clears the ended frames of a task's error, and those that have called them. The traceback stays readable.

    Returns:
        True if all frames up to the pool have ended. If not, the rest must be cleared later.
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
    """Clears a frame's variables. Returns False if the frame still runs or can be resumed; then it is left alone."""
    if frame.f_code.co_flags & _RESUMABLE:
        return False
    try:
        frame.clear()
    except RuntimeError:
        return False
    # Reading f_locals again replaces the copies that an earlier reading has made by empty ones.
    frame.f_locals  # noqa: B018
    return True
