"""Waiting for the end of all that a test has sent, and an error that says what has not ended."""

from __future__ import annotations

import time

from celery import Celery

from kafka_exec.core.overview.sentences import sentence
from kafka_exec.core.overview.times import when
from kafka_exec.kafka.overview.idle import wait_until_idle
from kafka_exec.operations.tasks import reason
from kafka_exec.settings.appconf import broker_home

#: So many tasks are told of, each with the reason why it does not run.
_TOLD = 5


class NotIdle(AssertionError):
    """Tasks have not ended in time. The message names them, and says of each why it does not run."""


def run_until_idle(app: Celery, timeout: float = 60.0) -> None:
    """Returns when all tasks that were sent under the app's prefix have ended, and all that these have sent.

    It reads the logs. A task that waits for ``resume()`` does not count: the test itself continues it.

    Raises:
        NotIdle: they have not ended within ``timeout`` seconds.
        ConnectionFailed: the cluster does not answer.
    """
    space = broker_home(app)
    left = wait_until_idle(space.cluster, space.topics, timeout)
    if not left:
        return
    now = time.time()
    lines = [
        sentence(reason(app, task, now), lambda at: when(at, now)) if task else "a message that is no task"
        for task in left.tasks[:_TOLD]
    ]
    more = len(left.tasks) - _TOLD
    if more > 0:
        lines.append(f"and {more} more")
    if left.commands:
        lines.append(f"{left.commands} parts of chords or suspensions that no control plane has counted")
    raise NotIdle(f"not idle after {timeout:g} s:" + "".join(f"\n  {line}" for line in lines))
