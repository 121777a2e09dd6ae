"""Notes of tasks beside their states: errors of attempts, and remarks; and the end of tasks that are lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import ConfigurationError, LostRecord
from tests.integration.app import make_app
from tests.integration.records import read
from tests.integration.workers import PATIENCE, Crew, crew, until


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(kafka, tmp_path_factory.mktemp("notes"), backend="same", kafka_exec_heartbeat=0.3) as found:
        found.ready(found.start("one", "-c", "1"))
        yield found


def show(made: Crew, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.command("kafka", "show", task_id, "--json"))
    return found


def test_every_failed_attempt_has_its_error(made: Crew) -> None:
    result = made.app.tasks["flaky"].delay(3)
    assert result.get(timeout=PATIENCE) == 3
    record = show(made, result.id)
    assert (record["state"], record["attempts"], record["previous"]) == ("DONE", 4, "RUNNING")
    assert [error["attempt"] for error in record["errors"]] == [1, 2, 3]
    first = record["errors"][0]
    assert (first["type"], first["message"], first["worker"]) == ("Refused", "not yet", "one@test")
    assert "in flaky" in first["traceback"]
    assert [error["at"] for error in record["errors"]] == sorted(error["at"] for error in record["errors"])

    failed = made.app.tasks["refuse"].delay("no")
    failed.get(timeout=PATIENCE, propagate=False)
    assert [(error["type"], error["attempt"]) for error in show(made, failed.id)["errors"]] == [("Refused", 1)]


def test_a_retry_tells_when_it_is_due(made: Crew) -> None:
    result = made.app.tasks["flaky"].delay(1, 3600)
    until(lambda: result.state == "RETRY")
    record = show(made, result.id)
    assert record["state"] == "DELAYED"
    assert record["due"] == pytest.approx(record["errors"][0]["at"] + 3600, abs=PATIENCE)
    result.revoke()


def test_remarks_are_kept_in_order_and_change_no_state(made: Crew) -> None:
    result = made.app.tasks["remarking"].delay("counted twice")
    result.get(timeout=PATIENCE)
    kafka_exec.remark("looks right", task_id=result.id, by="ann", app=made.app)
    made.command("kafka", "remark", result.id, "paid by hand", "--by", "bob")
    record = show(made, result.id)
    assert [(remark["by"], remark["text"]) for remark in record["remarks"]] == [
        ("one@test", "counted twice"),
        ("ann", "looks right"),
        ("bob", "paid by hand"),
    ]
    assert (record["state"], result.state) == ("DONE", "SUCCESS")
    assert "paid by hand" in made.command("kafka", "show", result.id)


def test_a_remark_needs_a_task_and_a_back_end(made: Crew) -> None:
    with pytest.raises(ConfigurationError, match="needs a task_id"):
        kafka_exec.remark("of nothing", app=made.app)
    with pytest.raises(ConfigurationError, match="kafka-exec:// result backend"):
        kafka_exec.remark("nowhere", task_id="t", app=make_app(made.url))


def test_a_task_of_a_dead_worker_is_listed_as_lost(made: Crew, tmp_path: Path) -> None:
    with crew(made.kafka, tmp_path, backend="same", kafka_exec_heartbeat=0.3) as lonely:
        worker = lonely.start("lonely", "-P", "solo")
        lonely.ready(worker)
        held = lonely.app.tasks["hold"].delay(str(lonely.gate()))
        until(lambda: held.state == "STARTED")

        def listed() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(lonely.command("kafka", "executions", "--active", "--json"))
            return found

        assert "lost" not in listed()
        worker.kill()
        until(lambda: listed().get("lost") is True)
        assert listed()["worker"] == "lonely@test"
        assert "RUNNING (lost)" in lonely.command("kafka", "executions")

        # Its message is there, so another worker may still run it: it is not given up.
        lonely.app.backend.cleanup()
        assert held.state == "STARTED"

        place = show(lonely, held.id)
        admin = made.kafka.admin()
        gone = TopicPartition(place["topic"], place["partition"], place["offset"] + 1)
        for deleted in admin.delete_records([gone]).values():
            deleted.result(PATIENCE)
        lonely.app.backend.cleanup()
        until(lambda: held.state == "FAILURE")
        with pytest.raises(LostRecord, match="send it again"):
            held.get(timeout=PATIENCE)
        dead = read(made.kafka, f"{lonely.prefix}.dead.celery", 1)
        assert [dict(record.headers())["dead-reason"] for record in dead] == [b"lost-record"]
