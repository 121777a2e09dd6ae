"""Results of tasks are neither lost nor changed when workers and brokers are killed, stopped and started."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord
from tests.integration.app import make_app
from tests.integration.records import committed
from tests.integration.workers import PATIENCE, Crew, crew, until


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", kafka_exec_session_timeout=6) as found:
        yield found


def written(made: Crew, task_id: str) -> list[State]:
    """The states of all records of a task that are in the topic, in their order."""
    records = committed(made.kafka, f"{made.prefix}.state")
    states = [StateRecord.decode(record.value()) for record in records if record.value() is not None]
    return [state.state for state in states if state.id == task_id]


def test_who_waits_gets_the_result_after_a_restart_of_the_broker(tmp_path: Path) -> None:
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path, backend="same") as made:
        made.ready(made.start("one", "-P", "solo"))
        gate = made.gate()
        result = made.app.tasks["progress"].delay(str(gate))
        until(lambda: result.state == "PROGRESS")
        found: list[str] = []
        # The restart may take a while, for which nobody waits here.
        waiter = threading.Thread(target=lambda: found.append(result.get(timeout=3 * PATIENCE)))
        waiter.start()
        kafka.stop()
        kafka.start()
        gate.touch()
        waiter.join(PATIENCE)
        assert found == ["complete"]
        assert made.app.tasks["add"].delay(1, 2).get(timeout=PATIENCE) == 3


@pytest.mark.parametrize("pool", ["solo", "prefork"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_worker_killed_around_the_state_record_loses_nothing(made: Crew, pool: str, moment: str) -> None:
    marker = made.gate()
    victim = made.start("victim", "-P", pool, "-c", "1")
    made.ready(victim)
    result = made.app.tasks[f"killed_{moment}_its_state"].delay(str(marker))
    assert victim.wait() == -signal.SIGKILL
    assert marker.exists()
    assert (State.DONE in written(made, result.id)) is (moment == "after")
    made.start("victim", "-P", pool, "-c", "1")
    assert result.get(timeout=PATIENCE) is not None
    until(lambda: made.backlog() == 0, what="all acknowledged")
    runs = made.effects.count()[result.id]
    assert runs == 2 if moment == "before" else runs in (1, 2)
    assert make_app(made.url, made.url).AsyncResult(result.id).state == "SUCCESS"


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_a_late_end_after_the_end_elsewhere_changes_nothing(made: Crew, pool: str) -> None:
    gate = made.gate()
    paused = made.start("paused", "-P", pool, "-c", "1")
    made.ready(paused)
    result = made.app.tasks["late"].delay("paused", "", str(gate))
    made.effects.wait_for([result.id], "begin")
    stopped = paused.processes()
    for process in stopped:
        process.suspend()
    made.start("quick", "-P", "solo")
    assert result.get(timeout=PATIENCE) == "quick"
    gate.touch()
    for process in stopped:
        process.resume()
    paused.wait_for_line("its end as DONE here changes nothing")
    assert written(made, result.id).count(State.DONE) == 1
    assert make_app(made.url, made.url).AsyncResult(result.id).get(timeout=PATIENCE) == "quick"
    after = made.app.tasks["late"].delay("nobody", "", "")
    assert after.get(timeout=PATIENCE) in ("paused", "quick")
    until(lambda: made.backlog() == 0, what="all acknowledged")


def test_a_late_start_after_the_end_changes_nothing_for_any_reader(made: Crew) -> None:
    gate, finish = made.gate(), made.gate()
    paused = made.start("paused", "-P", "solo")
    made.ready(paused)
    waiting = make_app(made.url, made.url)
    result = made.app.tasks["late"].delay("paused", str(gate), str(finish))
    made.effects.wait_for([result.id], "begin")
    os.killpg(paused.process.pid, signal.SIGSTOP)
    made.start("quick", "-P", "solo")
    assert waiting.AsyncResult(result.id).get(timeout=PATIENCE) == "quick"

    os.killpg(paused.process.pid, signal.SIGCONT)
    gate.touch()
    made.effects.wait_for([result.id], "late")
    until(lambda: written(made, result.id)[-1] is State.RUNNING, what="the late start is in the topic")
    for app in (made.app, waiting, make_app(made.url, made.url)):
        assert app.AsyncResult(result.id).state == "SUCCESS"
        assert app.AsyncResult(result.id).get(timeout=PATIENCE) == "quick"
    assert '"state": "DONE"' in made.command("kafka", "show", result.id, "--json")
    finish.touch()
