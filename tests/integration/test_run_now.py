"""Tasks that wait for their time, and are run now: each once, whoever moves them, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import NotConfirmed
from kafka_exec.kafka.control import level
from kafka_exec.operations import run_now as operation
from kafka_exec.operations.run_now import run_now
from tests.integration.delay_tools import moving
from tests.integration.workers import PATIENCE, Crew, crew, until

HOUR = 3600.0


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same") as found:
        yield found


def has_state(made: Crew, task_id: str, state: str) -> bool:
    return bool(made.app.AsyncResult(task_id).state == state)


def test_the_chosen_ones_of_those_that_wait_for_their_time_run_once_and_no_others(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2", "-P", "threads"))
    chosen = made.send("work", number=30, countdown=HOUR)
    others = made.send("hold", str(made.folder / "none"), number=5, countdown=HOUR)
    listed = made.command("kafka", "run", "--name", "work", "--dry-run")
    assert all(each in listed for each in chosen)
    assert not any(each in listed for each in others)
    asked = made.run("kafka", "run", "--name", "work")
    assert (asked.returncode, "--yes answers it" in asked.stderr) == (2, True)
    assert "30 tasks have gone to their queues" in made.command("kafka", "run", "--name", "work", "--yes")
    made.effects.wait_for(chosen)
    assert "no tasks are chosen" in made.command("kafka", "run", "--name", "work", "--yes")
    assert run_now(made.app, chosen) == 0
    made.effects.assert_once(chosen, "begin")
    assert {effect.task for effect in made.effects.all("begin")} == set(chosen)


def test_a_retry_goes_on_now_in_the_order_of_its_key(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2", "-P", "threads"))
    first = made.app.tasks["stumble"].apply_async((1, HOUR), ordering_key="k")
    second = made.app.tasks["work"].apply_async(ordering_key="k")
    until(lambda: has_state(made, first.id, "RETRY"), what="the retry")
    assert "1 tasks have gone" in made.command("kafka", "retry", "--key", "k", "--yes")
    made.effects.wait_for([first.id, second.id])
    begun = [effect.task for effect in sorted(made.effects.all("begin"), key=lambda effect: effect.time)]
    assert begun[-1] == second.id


def test_who_moves_the_others_later_knows_what_was_run_now(made: Crew, kafka: EmbeddedKafka) -> None:
    ids = made.send("work", number=40, countdown=HOUR)
    for chosen, number in ((ids[::2], 20), (ids[1:], 20), (ids, 0)):
        with moving(kafka.bootstrap_servers, made.prefix):
            assert run_now(made.app, chosen) == number
    made.ready(made.start("one", "-c", "2", "-P", "threads"))
    made.effects.wait_for([*ids, *made.send("work")])
    made.effects.assert_once(ids, "begin")


def test_without_anybody_who_moves_them_it_says_so(made: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "_PATIENCE", 1.0)
    ids = made.send("work", number=2, countdown=HOUR)
    with pytest.raises(NotConfirmed, match="2 of 2 messages were not moved: run a worker"):
        run_now(made.app, ids)


def test_no_more_are_moved_ahead_than_a_position_can_tell_and_what_is_due_goes_on_meanwhile(
    made: Crew, kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(level, "MOST_AHEAD", 10)
    monkeypatch.setattr(operation, "_PATIENCE", 3.0)
    ids = made.send("work", number=41, countdown=HOUR)
    due = made.send("work", number=20, countdown=4)
    with moving(kafka.bootstrap_servers, made.prefix):
        with pytest.raises(NotConfirmed, match="were not moved"):
            run_now(made.app, ids[1::2])
        made.ready(made.start("one", "-c", "2", "-P", "threads"))
        made.effects.wait_for(due)
    begun = {effect.task for effect in made.effects.all("begin")}
    assert begun >= set(due)
    assert begun <= {*ids[1::2], *due}


def test_a_task_is_run_now_by_http(made: Crew) -> None:
    from kafka_exec.errors import WrongState
    from kafka_exec.operations.acts import run_task_now

    made.ready(made.start("one", "-c", "1", "-P", "threads"))
    waiting = made.app.tasks["work"].apply_async(countdown=HOUR)
    run_task_now(made.app, waiting.id)
    waiting.get(timeout=PATIENCE)
    with pytest.raises(WrongState, match="it is DONE"):
        run_task_now(made.app, waiting.id)
