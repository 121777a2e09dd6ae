"""A queue's dead letters without any worker, and `celery kafka dead` as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.topology import dead_topic, queue_topic
from kafka_exec.core.message.dead import Letter, RawHeaders
from kafka_exec.core.message.envelope import Message, dead_letter_headers, encode
from kafka_exec.kafka.log.history import Fetcher, history
from kafka_exec.kafka.publish.scopes import confirmed
from kafka_exec.kafka.queue.dead import DeadLetters
from kafka_exec.settings.appconf import broker_home
from tests.integration.workers import APP, PATIENCE, ROOT, Crew, environment

#: A command that kills itself at its ``at``-th transaction: when that is written and not committed, or committed.
DYING = """
import os, signal
from kafka_exec.kafka.publish.transactions import Transactor
commit, calls = Transactor.commit, []
def dying(self):
    calls.append(self)
    if len(calls) < {at}:
        return commit(self)
    if {committed}:
        commit(self)
    else:
        self._producer.flush(30)
    os.kill(os.getpid(), signal.SIGKILL)
Transactor.commit = dying
from celery.__main__ import main
main()
"""


class Morgue:
    """A queue and its dead letters, without any worker."""

    def __init__(self, made: Crew, queue: str = "celery") -> None:
        self.space = broker_home(made.app)
        self.cluster, self.topics = self.space.cluster, self.space.topics
        settings = self.space.settings
        self.cluster.topics.ensure(queue_topic(settings, self.topics, queue), dead_topic(settings, self.topics, queue))
        self.queue = self.topics.queue(queue)
        self.letters = DeadLetters(self.cluster, self.topics, queue)

    def bury(
        self,
        value: bytes | None,
        headers: RawHeaders | None = None,
        *,
        key: str | None = None,
        reason: str = "rejected",
        error: str = "no",
        origin: tuple[str, int, int] | None = None,
    ) -> None:
        topic, partition, offset = origin or (self.queue, 3, 5)
        why = dead_letter_headers(
            headers or [], reason=reason, error=error, topic=topic, partition=partition, offset=offset
        )
        self.cluster.publisher.send(self.letters.topic, value, key=key, headers=why)

    def bury_tasks(self, number: int, name: str = "work", keys: int | None = None) -> list[str]:
        """Letters of tasks, with as many different keys as asked for; their ids, in order."""
        ids = [f"{name}-{n}" for n in range(number)]
        with confirmed():
            for n, task_id in enumerate(ids):
                self.bury(*task(name, task_id), key=task_id if keys is None else f"key-{n % keys}")
        return ids

    def records(self, topic: str | None = None) -> list[Record]:
        """All records of the queue's topic, or of another."""
        topic = topic or self.queue
        fetcher = Fetcher(self.cluster, topic)
        ends = [fetcher.end(partition) for partition in range(self.cluster.topics.partitions(topic) or 0)]
        fetcher.close(1.0)
        return [
            record
            for partition, end in enumerate(ends)
            if end
            for batch in history(self.cluster, topic, partition, end)
            for record in batch
        ]

    def replayed(self) -> Counter[str]:
        """The number of messages of each task in the queue, by the task's id."""
        return Counter(json.loads(dict(record.headers())["headers"])["id"] for record in self.records())

    def all(self) -> list[Letter]:
        return list(self.letters.scan())


def task(name: str, task_id: str, args: Any = ()) -> tuple[bytes, RawHeaders]:
    """Value and headers of a task's record."""
    body = json.dumps([args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()
    message = Message(body, "application/json", "utf-8", {"task": name, "id": task_id}, {}, "", "celery")
    return body, list(encode(message))


def command(*arguments: str, broker: str | None = None, code: str = "") -> list[str]:
    start = [sys.executable, "-c", code] if code else [sys.executable, "-m", "celery"]
    return [*start, *(["--broker", broker] if broker else ["-A", APP]), "kafka", "dead", *arguments]


def run(made: Crew, *arguments: str, broker: str | None = None) -> subprocess.CompletedProcess[str]:
    """`celery kafka dead …` to its end, without a terminal."""
    return subprocess.run(
        command(*arguments, broker=broker),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        env=environment(made.url, made.folder, made.conf, **made.env),
    )


def done(made: Crew, *arguments: str) -> str:
    """The output of a command that succeeds."""
    found = run(made, *arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def listed(made: Crew, *options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done(made, "list", *options, "--json").splitlines()]
