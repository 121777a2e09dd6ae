"""A process whose threads all use one app at once: remote control, publishing, and topics that are to be made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.topology import state_topic
from kafka_exec.kafka.client.clients import Clients
from tests.integration.workers import Crew, crew

pytestmark = pytest.mark.timed

#: More than Celery's ``broker_pool_limit``.
THREADS = 20


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path) as found:
        found.ready(found.start("one", "-c", "1"))
        yield found


def together(*calls: Callable[[], Any], timeout: float = 40.0) -> list[Any]:
    """Makes calls at once, each in a thread of its own; what they returned, or raised."""
    outcomes: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(number: int) -> None:
        barrier.wait()
        try:
            outcomes[number] = calls[number]()
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not [thread for thread in threads if thread.is_alive()], "some have not come back"
    return outcomes


def test_all_that_call_remote_control_come_back_and_others_publish_meanwhile(made: Crew) -> None:
    made.send("work")  # declares the queue
    took: list[float] = []

    def publish() -> str:
        began = time.monotonic()
        task_id: str = made.app.tasks["work"].delay().id
        took.append(time.monotonic() - began)
        return task_id

    def ping() -> Any:
        return made.app.control.ping(timeout=4)

    def inspect() -> Any:
        return made.app.control.inspect(timeout=4).active_queues()

    outcomes = together(*[ping, inspect] * (THREADS // 2), *[publish] * 5)
    assert outcomes[:THREADS:2] == [[{"one@test": {"ok": "pong"}}]] * (THREADS // 2)
    assert [list(found) for found in outcomes[1:THREADS:2]] == [["one@test"]] * (THREADS // 2)
    # They have not waited for the connections of those who wait for replies.
    assert max(took) < 4
    made.effects.wait_for(outcomes[THREADS:])
    # What is kept is what the setting says, however many there were.
    pool = made.app.pool
    assert pool._resource.qsize() == pool.limit == made.app.conf.broker_pool_limit == 10


def test_a_topic_that_all_need_at_once_is_made_by_one(
    kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first use of an app by all threads of a process: each with a client of its own would overwhelm Kafka."""
    made_clients: list[Clients] = []
    new_admin = Clients.new_admin
    monkeypatch.setattr(Clients, "new_admin", lambda self: made_clients.append(self) or new_admin(self))
    with crew(kafka, tmp_path, backend="same") as made:
        space = made.app.backend.space
        spec = state_topic(space.settings, space.topics)
        outcomes = together(*[lambda: space.cluster.topics.ensure(spec)] * THREADS)
        made_here = [each for each in made_clients if each is space.cluster]
        assert (outcomes, len(made_here)) == ([None] * THREADS, 1)
