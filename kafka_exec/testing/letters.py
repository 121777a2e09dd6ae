"""The dead letters of a test."""

from __future__ import annotations

from celery import Celery

from kafka_exec.core.message.dead import Letter
from kafka_exec.kafka.queue.dead import DeadLetters, queues_with_letters
from kafka_exec.settings.appconf import broker_home


def dead_letters(app: Celery) -> list[Letter]:
    """The dead letters of all queues under the app's prefix, in the order in which they died; also those that were replayed.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    space = broker_home(app)
    queues = queues_with_letters(space.topics, space.cluster.topics.counts())
    letters = [letter for queue in queues for letter in DeadLetters(space.cluster, space.topics, queue).scan()]
    return sorted(letters, key=lambda letter: letter.at)
