"""The Celery application: ``celery -A celery_app worker`` starts a worker of it."""

from __future__ import annotations

import os

from celery import Celery

import kafka_exec  # noqa: F401 - registers the kafka-exec:// scheme, and the integration for apps created after it

BROKER_URL = os.environ.get("EXAMPLE_BROKER_URL", "kafka-exec://127.0.0.1:9092")

app = Celery("celery_app", broker=BROKER_URL, backend=BROKER_URL, include=["celery_app.tasks", "celery_app.orders"])
app.conf.update(
    # A queue of its own: on a broker in use, workers of this application must not take (and discard) others' tasks.
    task_default_queue="celery_app",
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
)
