"""The Celery application: ``celery -A celery_app worker`` starts a worker of it."""

from __future__ import annotations

import os
import shutil

from celery import Celery

import kafka_exec  # registers the kafka-exec:// scheme, and the integration for apps created after it

BROKER_URL = os.environ.get("EXAMPLE_BROKER_URL", "kafka-exec://127.0.0.1:9092")

#: A queue of its own: on a broker in use, workers of this application must not take (and discard) others' tasks.
QUEUE = "celery_app"

#: The task that is no function of this application, but a command of the machine.
LINES = "celery_app.lines"

app = Celery(
    "celery_app",
    broker=BROKER_URL,
    backend=BROKER_URL,
    include=["celery_app.tasks", "celery_app.orders", "celery_app.packages"],
)
app.conf.update(
    task_default_queue=QUEUE,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    # A small application on one machine: the topics are made sooner. Partitions of a queue can be added later.
    kafka_exec_partitions={"queue": 4, "exchange": 2, "state": 4, "control": 2, "delay": 6},
    # A task that has taken its process with it so often is a dead letter.
    kafka_exec_max_deliveries=3,
)

if (program := shutil.which("wc")) is not None:
    kafka_exec.use_executor(app, "command", tasks={LINES: [program, "-l", "{path}"]}, allowed=[program])
