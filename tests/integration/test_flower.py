"""Flower, as it is, on Kafka: its stock pages, the queues, and tasks that ended before it began."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from tests.integration.flower_tools import Visitor, flower
from tests.integration.suspensions import suspended
from tests.integration.workers import PATIENCE, Crew, crew, until

#: A page's status, and its text.
Reply = tuple[int, str]


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same") as found:
        yield found


@contextmanager
def served(made: Crew) -> Iterator[Callable[[str], Reply]]:
    """Flower beside the block. Yields a function that gets a page."""
    with flower(made, FLOWER_UNAUTHENTICATED_API="true") as started:
        visitor = Visitor(started.address)

        def get(path: str) -> Reply:
            answer = visitor.ask(path)
            return answer.status_code, answer.text

        yield get


def test_its_pages_show_the_queues_and_tasks_that_ended_before_it_began(made: Crew) -> None:
    made.ready(made.start("only", "-c", "2", "-P", "threads"))
    gate = made.gate()
    held = made.send("hold", str(gate), number=2)
    made.effects.wait_for(held, "begin")
    made.send("work", number=3)
    done = made.app.tasks["add"].apply_async((1, 2), queue="other")  # no worker reads it
    with served(made) as get:
        for page in ("/", "/workers", "/tasks", "/broker", "/metrics", "/healthcheck"):
            assert get(page)[0] == 200, page
        told: dict[str, dict[str, Any]] = {}

        def are_told() -> bool:
            told.update({each["name"]: each for each in json.loads(get("/api/queues/length")[1])["active_queues"]})
            return told["celery"]["messages_unacknowledged"] == 2

        until(are_told, what="the running tasks in the queue")
        assert [told["celery"][name] for name in ("messages", "messages_ready", "consumers")] == [5, 3, 1]
        assert [told["other"][name] for name in ("messages", "messages_ready", "consumers")] == [1, 1, 0]
        assert ">other</td>" in get("/broker")[1].replace(" ", "")
        assert get("/task/nothing")[0] == 404
    gate.touch()
    made.effects.wait_for(held)
    failed = made.app.tasks["fail"].delay("because")
    with pytest.raises(ValueError, match="because"):
        failed.get(timeout=PATIENCE)
    again = made.start("again", "-c", "1", "-P", "threads", "-Q", "other")
    assert done.get(timeout=PATIENCE) == 3
    again.stop()
    with served(made) as get:  # it begins anew, and no event has told it of them
        status, page = get(f"/task/{done.id}")
        assert status == 200
        assert "SUCCESS" in page
        info = json.loads(get(f"/api/task/info/{failed.id}")[1])
        assert (info["name"], info["state"], info["worker"]) == ("fail", "FAILURE", "only@test")
        assert "because" in info["exception"]
        assert json.loads(get(f"/api/task/info/{done.id}")[1])["result"] == "3"
        assert get("/api/task/info/nothing")[0] == 404


def test_it_shows_that_a_task_is_suspended_and_goes_on_or_is_revoked(made: Crew) -> None:
    made.ready(made.start("only", "-c", "2", "-P", "threads", "-E"))
    with served(made) as get:

        def state(task_id: str) -> str:
            status, text = get(f"/api/task/info/{task_id}")
            return str(json.loads(text)["state"]) if status == 200 else ""

        answered, revoked = (made.app.tasks["wait"].delay(name) for name in ("answered", "revoked"))
        until(lambda: {state(answered.id), state(revoked.id)} == {"SUSPENDED"}, what="both suspended tasks")
        assert get("/tasks")[0] == 200
        suspended(answered)
        assert kafka_exec.resume(made.app, "answered", 7).outcome == "continued"
        assert answered.get(timeout=PATIENCE) == 7
        until(lambda: state(answered.id) == "SUCCESS", what="the end of the task that went on")
        revoked.revoke()
        until(lambda: state(revoked.id) == "REVOKED", what="the end of the revoked task")
