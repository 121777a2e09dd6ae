"""Queues that are deleted, or purged, under the workers that consume them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import Crew, crew, until


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    conf = {"kafka_exec_partitions": {"queue": 1}, "kafka_exec_session_timeout": 6}
    with crew(kafka, tmp_path, **conf) as found:
        yield found


def make_anew(made: Crew) -> None:
    """Deletes the queue, and declares it, as two other processes would."""
    with made.app.connection_for_write() as connection:
        connection.default_channel.queue_delete("celery")
    with made.app.connection_for_write() as connection:
        made.app.amqp.queues["celery"](connection.default_channel).declare()


def test_the_tasks_of_a_queue_that_is_deleted_and_made_anew_under_its_worker_run_once(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2"))
    made.effects.wait_for(made.send("work", number=20))
    for _ in range(3):
        make_anew(made)
        tasks = made.send("work", number=8) + made.send("work", number=4, ordering_key="k")
        made.effects.wait_for(tasks)
        counted = made.effects.count("begin")
        assert [counted[each] for each in tasks] == [1] * len(tasks)
    made.workers[-1].stop()
    made.ready(made.start("two", "-c", "2"))
    more = made.send("work", number=5)
    made.effects.wait_for(more)
    assert set(made.effects.count("begin").values()) == {1}, "nothing is run again by who comes next"


def test_a_journal_that_is_gone_when_partitions_come_is_made_anew(made: Crew) -> None:
    worker = made.start("one", "-c", "2")
    made.ready(worker)
    made.effects.wait_for(made.send("work", number=5))
    worker.process.send_signal(signal.SIGSTOP)
    admin, group, journal = made.kafka.admin(), f"{made.prefix}.queue.celery", f"{made.prefix}.journal.celery"
    admin.delete_topics([journal])[journal].result(10)

    def members() -> int:
        return len(admin.describe_consumer_groups([group])[group].result(10).members)

    until(lambda: members() == 0, what="the group to take the worker for dead")
    worker.process.send_signal(signal.SIGCONT)  # it knows the journal, and gets its partition again
    made.effects.wait_for(made.send("work", number=5))
    assert set(made.effects.count().values()) == {1}


def test_no_task_is_lost_if_more_come_to_the_new_queue_than_were_in_the_old_one(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2"))
    made.effects.wait_for(made.send("work", number=3))
    make_anew(made)
    tasks = made.send("work", number=30)
    made.effects.wait_for(tasks)
    made.workers[-1].stop()
    made.ready(made.start("two", "-c", "2"))
    made.effects.wait_for(made.send("work", number=5))
