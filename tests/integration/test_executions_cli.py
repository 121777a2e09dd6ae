"""`celery kafka show` and `celery kafka executions`, as processes, of what workers have really done."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import APP, PATIENCE, ROOT, Crew, crew, environment, until


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(kafka, tmp_path_factory.mktemp("executions"), backend="same") as found:
        found.ready(found.start("one", "-c", "2"))
        yield found


def run(made: Crew, **tasks: tuple[Any, ...]) -> dict[str, str]:
    """Runs tasks to their ends, by their names; their ids."""
    results = {name: made.app.tasks[name].delay(*args) for name, args in tasks.items()}
    for result in results.values():
        result.get(timeout=PATIENCE, propagate=False)
    return {name: result.id for name, result in results.items()}


def show(made: Crew, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.command("kafka", "show", task_id, "--json"))
    return found


def listed(made: Crew, *options: str) -> dict[str, dict[str, Any]]:
    """The objects that ``executions --json`` prints, by id."""
    lines = made.command("kafka", "executions", "--limit", "1000", *options, "--json").splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


def test_show_tells_what_a_task_has_returned_and_who_ran_it(made: Crew) -> None:
    ids = run(made, add=(2, 3))
    record = show(made, ids["add"])
    expected = {"state": "DONE", "status": "SUCCESS", "name": "add", "result": 5, "worker": "one@test"}
    expected |= {"queue": "celery", "attempts": 1}
    assert record.items() >= expected.items()
    assert record["started"] <= record["finished"]
    text = made.command("kafka", "show", ids["add"])
    facts = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert (facts["id"], facts["state"], facts["result"]) == (ids["add"], "DONE", "5")


def test_show_tells_where_a_tasks_message_is_and_when_it_was_sent(made: Crew) -> None:
    ids = run(made, add=(2, 3))
    assert {"partition", "offset", "created"} <= show(made, ids["add"]).keys()


def test_show_tells_why_a_task_has_failed(made: Crew) -> None:
    ids = run(made, refuse=("no such customer",))
    record = show(made, ids["refuse"])
    assert record["state"] == "FAILED"
    assert record["exception"]["type"] == "Refused"
    assert "no such customer" in record["traceback"]
    text = made.command("kafka", "show", ids["refuse"])
    assert "Refused" in text
    assert "raise Refused(*reasons)" in text


def test_an_unknown_task_is_an_error_in_one_line(made: Crew) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "celery", "-A", APP, "kafka", "show", "nobody"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(made.url, made.folder, made.conf, **made.env),
    )
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == "Error: nothing is known of task nobody\n"


def test_executions_lists_what_runs_with_its_worker_and_what_has_ended(made: Crew) -> None:
    ids = run(made, echo=(1,), fail=("no",))
    gate = made.gate()
    held = made.app.tasks["hold"].delay(str(gate))
    until(lambda: held.state == "STARTED")
    active = listed(made, "--active")
    assert {(record["id"], record["state"], record["worker"]) for record in active.values()} == {
        (held.id, "RUNNING", "one@test")
    }
    assert set(listed(made)) >= {held.id, *ids.values()}
    assert ids["fail"] in listed(made, "--state", "failed")
    assert {record["state"] for record in listed(made, "--state", "FAILED").values()} == {"FAILED"}
    assert set(listed(made, "--name", "echo")) == {ids["echo"]}
    assert listed(made, "--name", "echo", "--active") == {}
    heading, first, *_ = made.command("kafka", "executions").splitlines()
    assert heading.split()[:5] == ["ID", "STATE", "NAME", "QUEUE", "WORKER"]
    assert first.split()[:5] == [held.id, "RUNNING", "hold", "celery", "one@test"]
    gate.touch()
    held.get(timeout=PATIENCE)
    assert listed(made, "--active") == {}


def test_all_is_known_after_a_restart_of_everything(tmp_path: Path) -> None:
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path, backend="same") as made:
        worker = made.start("one", "-P", "solo")
        made.ready(worker)
        ids = run(made, add=(2, 3), refuse=("no",))
        retrying = made.app.tasks["flaky"].delay(1, 3600)
        until(lambda: retrying.state == "RETRY")
        before = listed(made)
        worker.kill()
        kafka.stop()
        kafka.start()
        assert listed(made) == before
        assert show(made, ids["add"]) == before[ids["add"]]
        made.ready(made.start("another", "-P", "solo"))
        assert listed(made) == before
        assert set(listed(made, "--active")) == {retrying.id}


def test_tasks_are_chosen_by_patterns_times_and_expressions_and_counted(made: Crew) -> None:
    ids = run(made, add=(20, 30), fail=("chosen",), total=([7],))
    mine = "(" + " or ".join(f'id == "{each}"' for each in ids.values()) + ")"

    def chosen(*options: str) -> set[str]:
        return {record["name"] for record in listed(made, "--where", mine, *options).values()}

    assert chosen() == {"add", "fail", "total"}
    assert chosen("--name", "[at]*", "--since", "1 h") == {"add", "total"}
    assert chosen("--state", "failed,revoked", "--worker", "one@*") == {"fail"}
    assert chosen("--until", "1 h") == set()
    assert set(listed(made, "--where", f'{mine} and (error ~ "chosen" or result > 10)')) == {ids["add"], ids["fail"]}
    counted = made.command("kafka", "executions", "--where", mine, "--count", "state", "--json").splitlines()
    assert {each["state"]: each["number"] for each in map(json.loads, counted)} == {"DONE": 2, "FAILED": 1}
    wrong = made.run("kafka", "executions", "--where", "nme == 1")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "found 'nme'" in wrong.stderr


def test_the_chosen_tasks_are_revoked_and_no_others(made: Crew) -> None:
    kept = made.app.tasks["work"].apply_async(countdown=3600)
    retried = made.send("stumble", 1, 3600, number=3)
    made.effects.wait_for(retried, "retry")
    until(lambda: set(retried) <= set(listed(made, "--state", "DELAYED")), what="the retries' states")
    asked = made.run("kafka", "revoke", "--name", "stumble", "--state", "DELAYED")
    assert (asked.returncode, "--yes answers it" in asked.stderr) == (2, True)
    shown = made.command("kafka", "revoke", "--name", "stumble", "--state", "DELAYED", "--dry-run")
    assert all(each in shown for each in retried)
    assert "revoked 3 tasks" in made.command("kafka", "revoke", "--name", "stumble", "--state", "DELAYED", "--yes")
    everything = made.run("kafka", "revoke", "--yes")
    assert (everything.returncode, "say which tasks" in everything.stderr) == (2, True)
    until(
        lambda: all(made.app.AsyncResult(each).state == "REVOKED" for each in retried),
        what="the revoked state of all",
    )
    assert "no tasks are chosen" in made.command("kafka", "revoke", "--name", "stumble", "--yes")
    assert kept.state != "REVOKED"
    kept.revoke()
