"""A task comes to an end that is stored, whatever it raises, returns, tells or is called with; by real workers."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from celery import chord
from celery.contrib.abortable import AbortableAsyncResult
from celery.exceptions import ChordError, InvalidTaskError
from kombu.exceptions import DecodeError

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.topology import control_topic
from kafka_exec.core.control.reducers import Command
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import Encoded, StateRecord
from tests.integration.app import make_app
from tests.integration.records import committed
from tests.integration.storing_tasks import ODD
from tests.integration.workers import PATIENCE, Crew, crew, until


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """One worker for all; it tells its tasks' arguments with their states."""
    conf = {"result_extended": True, "kafka_exec_max_deliveries": 2, "kafka_exec_wrong_node_timeout": 1.0}
    with crew(kafka, tmp_path_factory.mktemp("storing"), backend="same", **conf) as found:
        found.ready(found.start("one", "-c", "2"))
        yield found


def stopped(made: Crew) -> set[str]:
    """The tasks that were FAILED or REVOKED at any time, also if they went on."""
    keys = (record.key().decode() for record in committed(made.kafka, f"{made.prefix}.state"))
    return {key.rpartition("/")[0] for key in keys if key.endswith("/stopped")}


def shown(made: Crew, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.command("kafka", "show", task_id, "--json"))
    return found


def letter_of(made: Crew, task_id: str) -> dict[str, Any] | None:
    lines = made.command("kafka", "dead", "list", "--json").splitlines()
    return next((letter for letter in map(json.loads, lines) if task_id in json.dumps(letter)), None)


def test_what_a_task_raises_is_raised_where_it_is_waited_for(made: Crew) -> None:
    results = {name: made.app.tasks["raise_odd"].delay(name) for name in ODD}
    for name, result in results.items():
        expected = ODD[name]()
        with pytest.raises(type(expected)):
            result.get(timeout=PATIENCE)
        elsewhere = make_app(made.url, made.url).AsyncResult(result.id)
        assert (elsewhere.state, type(elsewhere.result)) == ("FAILURE", type(expected))
        assert "raise ODD[name]()" in elsewhere.traceback
        if name not in ("object", "large", "nan", "unshowable"):
            assert elsewhere.result.args == expected.args
    large = shown(made, results["large"].id)
    assert large["exception"]["type"] == large["errors"][0]["type"] == "ValueError"
    assert "it had 2000000 characters" in large["exception"]["message"][0]


def test_who_waits_for_a_task_that_nobody_can_run_is_told(made: Crew) -> None:
    odd: dict[str, tuple[str, dict[str, Any]]] = {
        "add-1": ("[[1, 1], null, {}]", {}),
        "add-2": ("[[1, 1], {}, {}]", {"retries": "three"}),
        "add-3": ("{no json", {}),
    }
    with made.app.producer_or_acquire() as producer:
        for task_id, (body, more) in odd.items():
            producer.publish(
                body,
                routing_key="celery",
                content_type="application/json",
                content_encoding="utf-8",
                headers={"task": "add", "id": task_id, **more},
            )
    for task_id, kind in zip(odd, (InvalidTaskError, InvalidTaskError, DecodeError), strict=True):
        with pytest.raises(kind):
            made.app.AsyncResult(task_id).get(timeout=PATIENCE)
        assert until(lambda task_id=task_id: letter_of(made, task_id), what="its dead letter")


def test_a_retry_after_an_odd_error_stays_a_retry(made: Crew) -> None:
    retrying, total = made.app.tasks["retry_odd"], made.app.tasks["total"]
    results = [retrying.delay(name) for name in ODD]
    assert [result.get(timeout=PATIENCE) for result in results] == [5] * len(ODD)
    assert chord([retrying.s("uuid"), retrying.s("large")], total.s()).delay().get(timeout=PATIENCE) == 10
    assert stopped(made).isdisjoint(result.id for result in results)
    assert [error["type"] for error in shown(made, results[0].id)["errors"]] == ["KeyError"]


@pytest.mark.parametrize(
    "value",
    [float("nan"), {"x": float("inf")}, uuid.UUID(int=1), b"\xff", "\udcff", 10**30, "x" * 600_000],
    ids=["nan", "inf", "uuid", "bytes", "surrogate", "big", "large"],
)
def test_arguments_never_keep_a_state_from_being_stored(made: Crew, value: Any) -> None:
    for task, state in (("kinds", "SUCCESS"), ("refuse", "FAILURE")):
        result = made.app.tasks[task].delay(value)
        result.get(timeout=PATIENCE, propagate=False)
        elsewhere = make_app(made.url, made.url).AsyncResult(result.id)
        assert (elsewhere.state, elsewhere.name) == (state, task)
        assert len(elsewhere.args) == 1
        if len(str(value)) < 100:
            assert repr(elsewhere.args) == repr([value])


def test_what_is_too_large_ends_as_that(made: Crew) -> None:
    for task in ("large", "tell_much"):
        with pytest.raises(Exception, match="too large") as caught:
            made.app.tasks[task].delay(3_000_000).get(timeout=PATIENCE)
        assert type(caught.value).__name__ == "ResultTooLarge"
    body = made.app.tasks["close"].s()
    with pytest.raises(Exception, match="too much"):
        chord([made.app.tasks["large"].s(3_000_000), made.app.tasks["part"].s(1)], body).delay().get(timeout=PATIENCE)


def test_a_chord_fails_whose_part_nobody_knows(made: Crew) -> None:
    made.app.finalize()
    result = chord(
        [made.app.tasks["part"].s(1), made.app.signature("nobody.knows")], made.app.tasks["close"].s()
    ).delay()
    with pytest.raises(ChordError, match=r"nobody\.knows"):
        made.app.AsyncResult(result.id).get(timeout=PATIENCE)


#: Who left with status 3; Celery before 5.7 says only that.
LEFT = r"SystemExit\(3\)|exitcode 3"


def test_who_leaves_the_process_and_who_overruns_the_time_is_named(made: Crew) -> None:
    left, late = made.app.tasks["leave"].delay(3), made.app.tasks["overrun"].delay()
    with pytest.raises(Exception, match=LEFT):
        left.get(timeout=PATIENCE)
    with pytest.raises(Exception, match="TimeLimitExceeded"):
        late.get(timeout=PATIENCE)
    for result, error in ((left, LEFT), (late, "TimeLimitExceeded")):
        assert re.search(error, json.dumps(until(lambda result=result: letter_of(made, result.id))))
    assert made.effects.count("begin")[late.id] == 1


def test_an_aborted_task_keeps_its_facts(made: Crew) -> None:
    gate = made.gate()
    held = made.app.tasks["hold"].delay(str(gate))
    until(lambda: held.state == "STARTED")
    before = shown(made, held.id)
    AbortableAsyncResult(held.id, app=made.app).abort()
    until(lambda: held.state == "ABORTED")  # which this process is told, as all others
    after = shown(made, held.id)
    assert after == {**before, "status": "ABORTED", "previous": "RUNNING", "result": None}
    row = next(line for line in made.command("kafka", "executions", "--active").splitlines() if held.id in line)
    assert row.split()[:6] == [held.id, "RUNNING", "(ABORTED)", "hold", "celery", "one@test"]
    gate.touch()
    assert held.get(timeout=PATIENCE) is None


WHEN = datetime(2031, 1, 1, tzinfo=timezone.utc)


def assert_carried(made: Crew, key: Any, part: Any, kept: Any) -> None:
    """A chord's body, its link and its errback have a key, and its parts return something; ``kept``: as it is read."""
    app = made.app
    body = app.tasks["kinds"].s(key).set(link=app.tasks["note_kinds"].s(key=key))
    result = chord([app.tasks["echo"].s(WHEN), app.tasks["same"].s(*part)], body).delay()
    assert result.get(timeout=PATIENCE) == ["list", type(key).__name__]
    failing = app.tasks["kinds"].s(key).on_error(app.tasks["note_kinds"].si(key=key))
    failed = chord([app.tasks["refuse"].s(part), app.tasks["echo"].s(1)], failing).delay()
    with pytest.raises(ChordError, match="Refused"):
        app.AsyncResult(failed.id).get(timeout=PATIENCE)
    noted = f"{type(key).__name__}-{key!r}".replace(" ", "")
    until(lambda: made.effects.count("kinds")[noted] == 2)
    assert [each.get(timeout=PATIENCE) for each in result.parent.results] == [WHEN, kept]


def test_what_a_chord_carries_comes_as_it_was(made: Crew) -> None:
    assert_carried(made, {"id": uuid.UUID(int=7), "at": WHEN}, (uuid.UUID(int=1), WHEN), [uuid.UUID(int=1), WHEN])


def test_a_chord_ends_whose_body_cannot_be_kept_or_read(made: Crew) -> None:
    app, space = made.app, made.app.backend.space
    result = chord([app.tasks["part"].s(1)], app.tasks["kinds"].s('"' * 300_000)).delay()
    with pytest.raises(ChordError, match="cannot be kept"):
        app.AsyncResult(result.id).get(timeout=PATIENCE)
    topic, group, task_id = control_topic(space.settings, space.topics).name, uuid.uuid4().hex, uuid.uuid4().hex
    part = {"task": "a part", "index": 0, "ok": True, "payload": "1", "body": f"encoded: no/type binary AAAA {task_id}"}
    for kind, more in (("part", part), ("size", {"size": 1, "run": "r"})):
        space.cluster.publisher.send(topic, Command(f"chord.{kind}", {"group": group, **more}).encode(), key=group)
    with pytest.raises(ChordError, match="no/type"):
        app.AsyncResult(task_id).get(timeout=PATIENCE)


def test_what_cannot_be_read_is_an_error_for_who_waits_for_it_only(made: Crew) -> None:
    gate, backend, unreadable = made.gate(), made.app.backend, uuid.uuid4().hex
    held = made.app.tasks["hold"].delay(str(gate))
    backend.result_consumer.consume_from(unreadable)  # as somebody's get() begins
    backend._publish_state(StateRecord(unreadable, State.DONE, "SUCCESS", result=Encoded("no/type", "binary", b"x")))
    until(lambda: backend.result_consumer._arrived)
    gate.touch()
    assert held.get(timeout=PATIENCE) is None
    with pytest.raises(Exception, match="no/type"):
        made.app.AsyncResult(unreadable).get(timeout=PATIENCE)


@pytest.fixture(scope="module", params=[("pickle", "json", "threads"), ("json", "pickle", "solo")], ids="-".join)
def mixed(
    request: pytest.FixtureRequest, kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crew]:
    """Tasks and results have serializers of their own, and what is of the other's is not accepted."""
    tasks, results, pool = request.param
    conf = {"task_serializer": tasks, "result_serializer": results, "kafka_exec_max_deliveries": 2}
    accepted = {"accept_content": [tasks], "result_accept_content": [results]}
    with crew(kafka, tmp_path_factory.mktemp("mixed"), backend="same", **conf, **accepted) as made:
        made.ready(made.start("one", "-P", pool, env={"C_FORCE_ROOT": "1"}))
        yield made


def test_what_a_chord_carries_is_kept_in_the_way_in_which_it_came(mixed: Crew) -> None:
    is_pickled = mixed.conf["task_serializer"] == "pickle"
    key: Any = frozenset({(1, "x")}) if is_pickled else {"id": uuid.UUID(int=7), "at": WHEN}
    part = (uuid.UUID(int=1), WHEN)
    assert_carried(mixed, key, part, list(part) if is_pickled else part)


def test_who_leaves_a_pool_without_processes_is_named(mixed: Crew) -> None:
    left = mixed.app.tasks["leave"].delay(3)
    with pytest.raises(Exception, match=r"SystemExit\(3\)"):
        left.get(timeout=PATIENCE)
    assert mixed.app.tasks["add"].delay(1, 2).get(timeout=PATIENCE) == 3
