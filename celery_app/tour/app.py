"""The application with the queues of the tour: ``celery -A celery_app.tour.app worker`` reads all of them.

They are not in the application itself: each queue that a worker reads takes its start longer.
"""

from __future__ import annotations

from kombu import Queue
from kombu.common import Broadcast

from celery_app.app import QUEUE, app

__all__ = ["ALL", "NAME", "QUEUE", "SINGLE", "URGENT", "app"]

#: The name for Celery's ``-A``.
NAME = __name__

#: All its messages are in one partition, which one worker owns.
SINGLE = "celery_app.single"

#: Tasks with a higher priority come first.
URGENT = "celery_app.urgent"

#: Each worker gets each message.
ALL = "celery_app.all"

app.conf.update(
    task_queues=[
        Queue(QUEUE),
        Queue(SINGLE, queue_arguments={"x-partitions": 1}),
        Queue(URGENT, max_priority=1, queue_arguments={"x-partitions": 2}),
        Broadcast(ALL),
    ],
    task_routes={"celery_app.packages.refresh": {"queue": ALL, "exchange": ALL}},
)
