"""Tests of an application with a real Kafka. pytest gets this as fixtures (docs/testing.md); other test runners import it.

with broker(None) as url, own_prefix(url) as own, pointed(app, settings_for(own)), at_once(file) as kafka_time:
    with Workers(app) as workers:
        workers.thread()
        ...
        run_until_idle(app)
"""

from __future__ import annotations

from kafka_exec.testing.apps import pointed
from kafka_exec.testing.brokers import broker, own_prefix, settings_for
from kafka_exec.testing.idle import NotIdle, run_until_idle
from kafka_exec.testing.letters import dead_letters
from kafka_exec.testing.runs import assert_ran_once
from kafka_exec.testing.timing import KafkaTime, Waited, at_once
from kafka_exec.testing.workers import WorkerFailed, WorkerProcess, Workers

__all__ = (
    "KafkaTime",
    "NotIdle",
    "Waited",
    "WorkerFailed",
    "WorkerProcess",
    "Workers",
    "assert_ran_once",
    "at_once",
    "broker",
    "dead_letters",
    "own_prefix",
    "pointed",
    "run_until_idle",
    "settings_for",
)
