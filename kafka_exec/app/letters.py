"""The dead letters of an app's queues, for programs."""

from __future__ import annotations

from celery import Celery

from kafka_exec.kafka.queue.dead import DeadLetters
from kafka_exec.settings.appconf import broker_home


def dead_letters(app: Celery, queue: str) -> DeadLetters:
    """The dead letters of one queue, to read, replay and delete them.

    Raises:
        ConfigurationError: the app's broker is not kafka-exec, or a setting is wrong.
        ConnectionFailed: no broker answers.
    """
    space = broker_home(app)
    return DeadLetters(space.cluster, space.topics, queue)
