"""Tasks with a retry policy, in a worker: they wait in Kafka, and end as their policy says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from celery import chord
from celery.result import AsyncResult

from kafka_exec import Unrecoverable
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.message.dead import Letter, Order
from tests.integration.chord_tools import settled
from tests.integration.dead_tools import Morgue
from tests.integration.retry_tasks import SOON, Away, Busy
from tests.integration.workers import PATIENCE, Crew, crew, until


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(kafka, tmp_path_factory.mktemp("retries"), backend="same") as found:
        found.ready(found.start("one", "-c", "2"))
        yield found


def show(made: Crew, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.command("kafka", "show", task_id, "--json"))
    return found


def errors(made: Crew, task_id: str, number: int) -> list[tuple[int, str, str]]:
    """The errors of a task, when there are so many: Celery tells that of an attempt when it has sent the next one."""
    found = until(
        lambda: len(each := show(made, task_id).get("errors", ())) >= number and each, what=f"{number} errors"
    )
    return [(error["attempt"], error["type"], error["message"]) for error in found]


def letters(made: Crew, task_id: str) -> list[Letter]:
    """The dead letters of a task, when all that was sent is finished."""
    until(lambda: made.backlog() == 0, what="an empty queue")
    return [letter for letter in Morgue(made).all() if letter.id == task_id]


def failed(result: AsyncResult) -> BaseException:
    """The error with which a task has failed."""
    error = result.get(timeout=PATIENCE, propagate=False)
    assert result.state == "FAILURE"
    return error


def test_a_task_fails_twice_and_then_succeeds(made: Crew) -> None:
    result = made.app.tasks["retrying"].delay(2)
    assert result.get(timeout=PATIENCE) == 2
    assert errors(made, result.id, 2) == [(1, "Away", "attempt 1"), (2, "Away", "attempt 2")]
    record = show(made, result.id)
    assert (record["state"], record["attempts"]) == ("DONE", 3)
    assert letters(made, result.id) == []
    begun = [effect.time for effect in made.effects.all("begin") if effect.task == result.id]
    assert len(begun) == 3
    assert record["created"] <= begun[0]
    assert all(later - earlier > 0.99 * SOON.delay(1) for earlier, later in pairwise(begun))


def test_a_task_without_tries_left_fails_and_becomes_a_dead_letter(made: Crew) -> None:
    result = made.app.tasks["retrying"].delay(99)
    error = failed(result)
    assert (type(error), error.args) == (Away, ("attempt 3",))
    assert "in fail" in result.traceback
    assert errors(made, result.id, 3) == [(n, "Away", f"attempt {n}") for n in (1, 2, 3)]
    record = show(made, result.id)
    assert (record["state"], record["attempts"], record["exception"]["type"]) == ("FAILED", 3, "Away")
    (letter,) = letters(made, result.id)
    assert (letter.reason, letter.task) == ("rejected", "retrying")
    assert "attempt 3" in letter.error
    assert made.effects.count("begin")[result.id] == 3

    # Started again by an operator, it has all its tries again.
    Morgue(made).letters.replay(Order([letter.address]))
    until(lambda: len(letters(made, result.id)) == 2, what="a second dead letter")
    assert made.effects.count("begin")[result.id] == 6
    assert show(made, result.id)["created"] == record["created"]


def test_what_is_unrecoverable_is_tried_once(made: Crew) -> None:
    tasks = made.app.tasks
    result = tasks["retrying"].apply_async((99, "Wrong"), link_error=tasks["on_error"].s(key="told-of-wrong"))
    assert isinstance(failed(result), Unrecoverable)
    made.effects.wait_for(["told-of-wrong"], "error")
    (letter,) = letters(made, result.id)
    assert letter.reason == "rejected"
    assert errors(made, result.id, 1) == [(1, "Wrong", "attempt 1")]
    assert made.effects.count("begin")[result.id] == 1
    made.effects.assert_once(["told-of-wrong"], "error")


def test_a_policy_looks_at_the_error(made: Crew) -> None:
    task = made.app.tasks["retrying_little"]
    other, busy = task.delay(99, "Away"), task.delay(99, "Busy")
    assert (type(failed(other)), type(failed(busy))) == (Away, Busy)
    assert [len(letters(made, result.id)) for result in (other, busy)] == [1, 1]
    count = made.effects.count("begin")
    assert (count[other.id], count[busy.id]) == (1, 3)


def test_celerys_own_retries_work(made: Crew) -> None:
    task = made.app.tasks["autoretrying"]
    lucky, hopeless = task.delay(1), task.delay(99)
    assert lucky.get(timeout=PATIENCE) == 1
    assert failed(hopeless).args == ("attempt 2",)
    # Its failure is acknowledged, as Celery has it.
    assert letters(made, hopeless.id) == []

    task = made.app.tasks["retrying_itself"]
    lucky, hopeless = task.delay(2), task.delay(99)
    assert lucky.get(timeout=PATIENCE) == 2
    assert failed(hopeless).args == ("attempt 3",)
    assert errors(made, hopeless.id, 3) == [(n, "Away", f"attempt {n}") for n in (1, 2, 3)]
    assert len(letters(made, hopeless.id)) == 1


def test_a_chord_waits_for_the_retries_of_its_parts(made: Crew) -> None:
    tasks = made.app.tasks
    assert chord([tasks["part"].s(7), tasks["retrying"].s(2)], tasks["close"].s()).delay().get(timeout=PATIENCE) == [
        7,
        2,
    ]

    body = tasks["close"].s(key="closed").on_error(tasks["on_error"].s(key="part-failed"))
    result = chord([tasks["part"].s(7), tasks["retrying"].s(99)], body).delay()
    made.effects.wait_for(["part-failed"], "error")
    settled(made, "retries")
    made.effects.assert_once(["part-failed"], "error")
    assert made.effects.count()["closed"] == 0
    (part,) = (each for each in result.parent.results if each.state == "FAILURE")
    assert len(letters(made, part.id)) == 1
