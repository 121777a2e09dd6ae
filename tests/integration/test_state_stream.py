"""The topic of the state records, as a consumer sees it that knows nothing of this project but the published schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import TimeoutError
from jsonschema import Draft202012Validator

from kafka_exec.broker import EmbeddedKafka
from tests.integration.records import committed
from tests.integration.result_tasks import Refused
from tests.integration.workers import PATIENCE, ROOT, Crew, crew, until


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(kafka, tmp_path_factory.mktemp("stream"), backend="same") as found:
        found.ready(found.start("one", "-c", "2"))
        yield found


def stream(made: Crew, task_id: str = "") -> list[dict[str, Any]]:
    """All that the topic holds, or holds of one task, in its order."""
    values = [record.value() for record in committed(made.kafka, f"{made.prefix}.state")]
    found = [json.loads(value) for value in values if value is not None]
    return [record for record in found if task_id in ("", record["id"])]


def test_every_record_keeps_to_the_schema(made: Crew) -> None:
    tasks = made.app.tasks
    tasks["add"].apply_async((1, 2), ordering_key="k", deduplication_id="d").get(timeout=PATIENCE)
    tasks["rich"].delay().get(timeout=PATIENCE)
    tasks["spawn"].delay().get(timeout=PATIENCE)
    with pytest.raises(Refused):
        tasks["refuse"].delay("no").get(timeout=PATIENCE)
    schema = Draft202012Validator(json.loads((ROOT / "docs" / "state.schema.json").read_text()))
    records = stream(made)
    assert {record["state"] for record in records} >= {"DONE", "FAILED"}
    assert ("k", "d") in {(record.get("ordering_key"), record.get("deduplication_id")) for record in records}
    for record in records:
        schema.validate(record)


def test_a_run_is_told_by_its_task_and_its_attempt(made: Crew) -> None:
    result = made.app.tasks["flaky"].delay(2)
    assert result.get(timeout=PATIENCE) == 2
    ends = {(record["attempts"], record["state"]) for record in stream(made, result.id) if record["state"] != "RUNNING"}
    assert ends == {(1, "DELAYED"), (2, "DELAYED"), (3, "DONE")}


def test_every_change_is_told_with_what_was_told_before(made: Crew) -> None:
    gate = made.gate()
    result = made.app.tasks["progress"].delay(str(gate))
    until(lambda: result.state == "PROGRESS")
    gate.touch()
    result.get(timeout=PATIENCE)
    changes = [(record["previous"], record["state"]) for record in stream(made, result.id)]
    # A start that is followed at once by another state is not told.
    assert changes == [("RUNNING", "RUNNING"), ("RUNNING", "RUNNING"), ("RUNNING", "DONE")]
    retried = made.app.tasks["flaky"].delay(1, 1)
    retried.get(timeout=PATIENCE)
    ends = [record["state"] for record in stream(made, retried.id) if record["state"] != "RUNNING"]
    assert ends == ["DELAYED", "DONE"]


def test_who_sends_and_waits_writes_no_state(made: Crew) -> None:
    result = made.app.tasks["add"].apply_async((1, 2), queue="nobody-consumes-it")
    with pytest.raises(TimeoutError):
        result.get(timeout=0.5)
    assert result.state == made.app.AsyncResult(result.id).state == "PENDING"
    assert stream(made, result.id) == []
    assert {record["worker"] for record in stream(made)} <= {"one@test"}
