"""Jobs: tables of steps with a context, each step done once, whatever is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import ConfigurationError
from tests.integration.workers import PATIENCE, Crew, crew, until

CONF = {"kafka_exec_partitions": {"queue": 2, "state": 2, "control": 2}, "kafka_exec_session_timeout": 3}


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        found.ready(found.start("one", "-c", "2"))
        yield found


def steps_of(made: Crew, task_id: str) -> list[str]:
    """The lines of a job, in their order."""
    return [effect.what for effect in made.effects.everything() if effect.task == task_id]


def ended(result: Any) -> None:
    until(result.ready, what="the end")


def test_each_outcome_of_a_step_does_what_it_says_and_hooks_are_called_in_pairs(made: Crew) -> None:
    result = made.app.tasks["order"].delay({"approval": "order-1"})
    until(lambda: kafka_exec.resume(made.app, "order-1", "ann").outcome in ("continued", "already"), what="the answer")
    assert result.get(timeout=PATIENCE) == {"approval": "order-1", "tries": 3, "approved": "ann", "parcels": 3}
    told = steps_of(made, result.id)
    steps = [each for each in told if not each.startswith("job-")]
    assert steps == ["reserve"] * 3 + ["approve", "pack"] + ["ship"] * 3
    assert told.count("job-begin") == told.count("job-commit") == len(steps)
    lines = map(json.loads, made.command("kafka", "history", result.id, "--json").splitlines())
    counted = [f"{step}/{count}" for count, step in enumerate(steps, start=1)]
    assert [each["detail"] for each in lines if each["what"] == "step"] == counted, "each execution has its number"
    failing = made.app.tasks["order"].delay({"approval": "order-2", "fails": True})
    kafka_exec.resume(made.app, "order-2")
    with pytest.raises(kafka_exec.Unrecoverable, match="no more"):
        failing.get(timeout=PATIENCE)


def test_who_is_killed_in_a_step_begins_it_again_and_no_other(made: Crew) -> None:
    result = made.app.tasks["order"].delay({"approval": "order-3", "stays": True})
    kafka_exec.resume(made.app, "order-3", "bob")
    until(Path(f"{made.effects.path}-durable-{result.id}").exists, what="the place")
    made.workers[-1].kill()
    made.ready(made.start("two", "-c", "2"))
    assert result.get(timeout=PATIENCE)["approved"] == "bob"
    steps = [each for each in steps_of(made, result.id) if not each.startswith("job-")]
    assert steps == ["reserve"] * 3 + ["approve"] + ["pack"] * 2 + ["ship"] * 3


def test_a_job_of_many_steps_gives_its_slot_up_now_and_then_and_a_wrong_increment_fails_it(made: Crew) -> None:
    count = made.app.tasks["count"]
    assert count.delay().get(timeout=PATIENCE) == {"n": 35}
    received = made.workers[-1].output.count("Task count[")
    assert received >= 4, "three times its slot was given up"
    wrong = count.delay({"n": 34, "last": 7})
    with pytest.raises(kafka_exec.Unrecoverable, match="step increase of job count has the increment 7"):
        wrong.get(timeout=PATIENCE)


def test_a_job_that_is_created_by_its_name_has_the_newest_version_that_a_worker_knows(made: Crew) -> None:
    stranger = Celery("stranger", broker=made.url, backend=made.url, set_as_current=False)
    with closing(stranger):
        first = kafka_exec.create(stranger, "count", {"n": 30})
        assert first.get(timeout=PATIENCE) == {"n": 35}
        made.ready(made.start("two", "-c", "2", env={"COUNT_VERSION": "2"}))
        until(lambda: '"count@2:' in made.command("kafka", "nodes", "--json"), what="its version in a heartbeat")
        second = kafka_exec.create(stranger, "count", {"n": 31}, task_id="of-version-2")
        assert second.get(timeout=PATIENCE) == {"n": 35, "version": 2}
        with pytest.raises(ConfigurationError, match="no living worker knows task nosuch"):
            kafka_exec.create(stranger, "nosuch")


def test_the_version_of_a_job_says_which_steps_it_has() -> None:
    class One(kafka_exec.Job):
        steps = ("begin",)

    class Two(kafka_exec.Job):
        version = 2
        steps = ("begin", "commit")

    assert str(One.version).startswith("1:")
    assert str(Two.version).startswith("2:")
    assert str(One.version)[2:] != str(Two.version)[2:]
    with pytest.raises(ImproperlyConfigured, match="its step 'nosuch' is no method"):
        type("Three", (kafka_exec.Job,), {"steps": ("nosuch",)})
