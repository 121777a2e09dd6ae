"""Workers give tasks to those that have slots free, and to those that know them; none runs twice for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.exceptions import NotRegistered

from kafka_exec.broker import EmbeddedKafka
from tests.integration.records import read
from tests.integration.workers import PATIENCE, Crew, Worker, crew, until

#: One partition has one owner: all others would idle.
ONE = {"queue": 1}


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", kafka_exec_partitions=ONE, kafka_exec_session_timeout=3) as found:
        yield found


def owner_and_guest(made: Crew) -> tuple[Worker, Worker]:
    """A worker that owns the queue's partition, and one that owns nothing."""
    owner = made.start("owner", "-c", "2")
    made.ready(owner)
    guest = made.start("guest", "-c", "2")
    guest.wait_for_line(" ready.")
    return owner, guest


def begun_by(made: Crew, ids: list[str]) -> Counter[str]:
    return Counter(effect.worker for effect in made.effects.all("begin") if effect.task in ids)


def test_a_worker_with_slots_free_runs_what_waits_at_another(made: Crew) -> None:
    owner_and_guest(made)
    gate = made.gate()
    held = made.send("hold", str(gate), number=12)
    until(lambda: begun_by(made, held) == {"owner": 2, "guest": 2}, what="tasks in all slots")
    gate.touch()
    more = made.send("work", 0.5, number=30)
    made.effects.wait_for([*held, *more])
    made.effects.assert_once([*held, *more], "begin")
    assert begun_by(made, more)["guest"] > 0
    until(lambda: made.backlog() == 0, what="a commit of all")


def test_what_a_dead_guest_was_running_begins_again_and_what_it_had_ended_does_not(made: Crew) -> None:
    _, guest = owner_and_guest(made)
    first = made.send("work", 0.5, number=12)
    made.effects.wait_for(first)
    gate = made.gate()
    held = made.send("hold", str(gate), number=6)
    until(lambda: begun_by(made, held) == {"owner": 2, "guest": 2}, what="tasks in all slots")
    lost = {effect.task for effect in made.effects.all("begin") if effect.worker == "guest" and effect.task in held}
    guest.kill()
    gate.touch()
    made.effects.wait_for(held)
    made.effects.assert_once([*first, *held])
    made.effects.assert_once([*first, *(set(held) - lost)], "begin")


def test_what_a_guest_runs_is_left_to_it_when_its_owner_dies(made: Crew) -> None:
    owner, _ = owner_and_guest(made)
    gate = made.gate()
    held = made.send("hold", str(gate), number=6)
    until(lambda: begun_by(made, held) == {"owner": 2, "guest": 2}, what="tasks in all slots")
    guests = [effect.task for effect in made.effects.all("begin") if effect.worker == "guest"]
    owner.kill()
    made.shared_out("celery", 1)  # the guest owns the partition now
    after = made.send("work", number=4)
    heir = made.start("heir", "-c", "2")
    heir.wait_for_line(" ready.")
    until(lambda: begun_by(made, held + after)["heir"] >= 2, what="tasks in the heir's slots")
    made.effects.assert_once(guests, "begin")
    gate.touch()
    made.effects.wait_for([*held, *after])
    made.effects.assert_once(guests, "begin")
    made.effects.assert_once([*held, *after])


def test_tasks_of_one_key_stay_in_order_when_others_run_them(made: Crew) -> None:
    owner_and_guest(made)
    ids = [f"k.{n:03}" for n in range(12)]
    for n, task_id in enumerate(ids):
        kwargs = {"failures": int(n % 4 == 0), "seconds": 0.3}
        made.app.tasks["stumble"].apply_async(kwargs=kwargs, task_id=task_id, ordering_key="k")
    others = made.send("work", 0.5, number=20)
    made.effects.wait_for([*ids, *others])
    ends = [effect.task for effect in sorted(made.effects.all(), key=lambda e: e.time) if effect.task in ids]
    assert ends == ids


def test_a_task_goes_to_the_worker_that_knows_it(made: Crew) -> None:
    old = made.start("old", "-c", "2", env={"WITHOUT_TASKS": "work"})
    made.ready(old)
    sent = made.send("work", number=5)
    old.wait_for_line("is not known here")
    until(lambda: sent[-1] in made.command("kafka", "executions", "--state", "WRONG_NODE"), what="the tasks' state")
    made.start("new", "-c", "2").wait_for_line(" ready.")
    sent += made.send("work", number=5)
    made.effects.wait_for(sent)
    made.effects.assert_once(sent)
    assert set(begun_by(made, sent)) == {"new"}
    until(lambda: made.backlog() == 0, what="a commit of all")


def test_a_task_goes_to_the_worker_that_has_its_version(made: Crew) -> None:
    old = made.start("old", "-c", "2", env={"WORK_VERSION": "1"})
    made.ready(old)
    first = made.send("work", number=3, headers={"task_version": 1})
    made.effects.wait_for(first)
    second = made.send("work", number=3, headers={"task_version": 2})
    old.wait_for_line("task work@2[")
    made.start("new", "-c", "2", env={"WORK_VERSION": "2 1"}).wait_for_line(" ready.")
    made.effects.wait_for(second)
    assert (set(begun_by(made, first)), set(begun_by(made, second))) == ({"old"}, {"new"})
    old.stop()
    made.shared_out("celery", 1)
    both = made.send("work", headers={"task_version": 1}) + made.send("work")
    made.effects.wait_for(both)
    made.effects.assert_once([*first, *second, *both])


def test_a_task_that_nobody_knows_becomes_a_dead_letter_after_a_while(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, backend="same", kafka_exec_wrong_node_timeout=1.5) as made:
        made.ready(made.start("old", "-c", "2", env={"WITHOUT_TASKS": "work"}))
        [sent] = made.send("work")
        others = made.app.tasks["add"].delay(1, 2)
        assert others.get(timeout=PATIENCE) == 3
        with pytest.raises(NotRegistered):
            made.app.AsyncResult(sent).get(timeout=PATIENCE)
        [letter] = read(kafka, f"{made.prefix}.dead.celery", 1)
        assert dict(letter.headers())["dead-reason"] == b"unknown-task"
        until(lambda: made.backlog() == 0, what="a commit of all")
