"""Signals of kafka_exec, of the same kind as Celery's: ``@transition.connect``.

Celery logs errors of receivers.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

__all__ = ("begun", "transition")

#: A task's state is about to be written. ``sender``: the task's name; ``task_id``; ``previous``: the state before, as far as
#: the writer knows, or None; ``state``: the new one, as ``kafka_exec`` names it (RUNNING, SUSPENDED, DONE …); ``status``: as
#: Celery names it. It is sent in the process that writes the state: a worker's pool process for runs and their ends, the
#: worker for what waits and for the control plane's decisions, the publisher for delayed tasks.
transition = Signal(name="transition", providing_args={"task_id", "previous", "state", "status"})

#: A run of a task begins: all that may refuse it has not, and its code comes next. ``sender``: the task, with its request.
#: It is sent in the process, thread and context that run the task, after Celery's ``task_prerun``.
begun = Signal(name="begun")
