"""Every pool of Celery runs tasks, answers meanwhile, ends cleanly and leaves nothing to run twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import Crew, MinglingWorker, crew, until

POOLS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "solo": (["-P", "solo"], {}),
    "fork": (["-P", "prefork", "-c", "2"], {}),
    "spawn": (["-P", "prefork", "-c", "2"], {"worker_pool_start_method": "spawn"}),
    "threads": (["-P", "threads", "-c", "4"], {}),
    "gevent": (["-P", "gevent", "-c", "20"], {}),
    "eventlet": (["-P", "eventlet", "-c", "20"], {}),
}


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path) as found:
        yield found


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_runs_answers_and_ends(made: Crew, pool: str) -> None:
    options, conf = POOLS[pool]
    worker = made.start(pool, *options, **conf)
    made.ready(worker)

    quick = made.send("work", number=40)
    gate = made.gate()
    held = made.send("hold", str(gate))
    made.effects.wait_for(held, "begin")
    if pool != "solo":
        answers = made.app.control.inspect(timeout=5, limit=1).ping()
        assert answers == {worker.node: {"ok": "pong"}}
        active = made.app.control.inspect(timeout=5, limit=1).active()
        assert held[0] in [task["id"] for task in active[worker.node]]
    worker.terminate()  # while a task runs
    if pool != "solo":
        worker.wait_for_line("Warm shutdown")
    assert worker.process.poll() is None
    gate.touch()
    assert worker.wait() == 0, worker.output[-5000:]
    assert made.effects.count()[held[0]] == 1

    # What it had not begun is there for the next one, what it had finished is not.
    with made.app.connection_for_read() as connection:
        queue = made.app.amqp.queues["celery"](connection.default_channel)
        left = []
        while (message := queue.get()) is not None:
            left.append(message.headers["id"])
            message.ack()
    made.effects.assert_once(set(quick) - set(left) | set(held))
    assert not set(left) & set(made.effects.count("begin"))
    assert made.backlog() == 0
    assert "Traceback" not in worker.output


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_green_pool_of_one_slot_goes_on(made: Crew, pool: str) -> None:
    worker = made.start(pool, "-P", pool, "-c", "1")
    made.ready(worker)
    sent = made.send("work", number=40)
    made.effects.wait_for(sent)
    made.effects.assert_once(sent)


@pytest.mark.parametrize("pool", POOLS)
def test_all_is_committed_when_a_pool_ends(made: Crew, pool: str) -> None:
    options, conf = POOLS[pool]
    first = made.start(f"{pool}-1", *options, **conf)
    made.ready(first)
    ids = made.send("work", number=40)
    made.effects.wait_for(ids)
    times = [effect.time for effect in made.effects.all()]
    # Far from a turn of Celery's event loop, a second, for each slot.
    assert max(times) - min(times) < 6
    first.stop()
    assert made.backlog() == 0

    second = made.start(f"{pool}-2", *options, **conf)
    made.ready(second)
    more = made.send("work", number=20)
    made.effects.wait_for(more)
    second.stop()
    made.effects.assert_once([*ids, *more])
    made.effects.assert_once([*ids, *more], "begin")


def test_a_worker_that_starts_learns_of_its_neighbours(made: Crew) -> None:
    made.ready(made.start("one", "-c", "1", kind=MinglingWorker))
    two = made.start("two", "-c", "1", kind=MinglingWorker)
    two.wait_for_line("mingle: sync with 1 nodes")
    two.wait_for_line("mingle: sync complete")


def test_a_pool_that_grows_by_need_has_its_new_slots_filled(made: Crew) -> None:
    worker = made.start("growing", "-P", "prefork", "--autoscale=3,1")
    made.ready(worker)
    gate = made.gate()
    held = made.send("hold", str(gate), number=5)
    until(lambda: len(made.effects.count("begin")) == 3, what="tasks in all slots")
    gate.touch()
    made.effects.wait_for(held)
    made.effects.assert_once(held, "begin")
    worker.stop()


def children_are_replaced(made: Crew, number: int) -> None:
    """Runs an even number of tasks, each in a pool process of its own; half of them are published by the other half."""
    worker = made.start("replacing", "-c", "4", "--max-tasks-per-child=1")
    made.ready(worker)
    children = [f"child-{each}" for each in range(number // 2)]
    parents = [made.send("parent", child)[0] for child in children]
    made.effects.wait_for([*parents, *children], timeout=200)
    until(lambda: made.backlog() == 0, what="all committed")
    made.effects.assert_once([*parents, *children])
    assert len({effect.pid for effect in made.effects.all()}) == number
    worker.stop()


def test_a_hundred_children_are_replaced(made: Crew) -> None:
    children_are_replaced(made, 100)
