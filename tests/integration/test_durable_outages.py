"""Durable tasks whose broker is away when they ask it for something, and the first run of a pool's child."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import states

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import PATIENCE, Crew, crew, until

#: Bytes of an answer that is too long for a message's header: the next run reads it.
SIZE = 200_000


@pytest.fixture
def made(fragile: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(fragile, tmp_path, backend="same") as found:
        yield found


def test_a_durable_call_waits_until_the_broker_is_back(made: Crew) -> None:
    """In the first run it sends a task, in the second one it reads what the first has done."""
    worker = made.start("one", "-c", "1", kafka_exec_publish_timeout=3)  # it is soon told that the broker is away
    made.ready(worker)
    gates = [made.gate(), made.gate()]
    result = made.app.tasks["outlasting"].delay([str(gate) for gate in gates], SIZE)
    for number, gate in enumerate(gates, 1):
        until(lambda number=number: made.effects.count("begin")[result.id] == number, what=f"run {number}")
        waits = len(worker.lines("goes on as soon as Kafka answers"))
        made.kafka.kill()
        gate.touch()
        until(
            lambda waits=waits: len(worker.lines("goes on as soon as Kafka answers")) > waits, what="a call that waits"
        )
        made.kafka.start()
    assert result.get(timeout=PATIENCE) == SIZE + 1
    made.effects.assert_once([result.id])


def test_a_task_that_a_new_child_runs_does_not_fail_because_the_broker_is_away(
    made: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    """A child of a pool connects when it runs its first task; here this process is one."""
    request = SimpleNamespace(id="first", root_id="first", children=[])
    made.kafka.kill()
    begins = threading.Thread(
        target=lambda: made.app.backend.store_result("first", None, states.STARTED, request=request), daemon=True
    )
    begins.start()
    until(lambda: "trying until it is" in caplog.text or not begins.is_alive(), what="an outage that is noticed")
    assert begins.is_alive()
    made.kafka.start()
    begins.join(PATIENCE)
    until(lambda: made.app.AsyncResult("first").state == states.STARTED, what="the state of the task")
