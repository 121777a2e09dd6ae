"""Values of a message arrive unchanged, or are refused when it is sent: headers, ids, the old message protocol."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from celery import chord, group
from celery.exceptions import TaskRevokedError
from kombu.exceptions import EncodeError

import kafka_exec
from kafka_exec import dead_letters
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.message.dead import Order
from kafka_exec.errors import ConfigurationError
from tests.integration.records import committed
from tests.integration.workers import PATIENCE, Crew, crew, until

OWN: dict[str, Any] = {
    "a_uuid": uuid.UUID(int=5),
    "a_time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    "some_bytes": b"\x00\xff",
    "a_decimal": Decimal("1.10"),
    "a_text": "zählen",
    "a_number": 1.5,
    "a_list": [1, {"a": uuid.UUID(int=6)}],
}
AS_THEY_WERE = {name: [type(value).__name__, str(value)] for name, value in OWN.items()}


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """One worker for all; a single process, in which a task knows whether it has run before."""
    with crew(kafka, tmp_path_factory.mktemp("values"), backend="same") as found:
        found.ready(found.start("one", "-c", "1"))
        yield found


@pytest.fixture(scope="module")
def old(made: Crew) -> Any:
    """The same application, as it sends tasks in Celery's old protocol."""
    from tests.integration.app import make_app

    app = make_app(made.url, made.backend, task_protocol=1)
    yield app
    app.close()


def replay(made: Crew, task: str, task_id: str) -> Any:
    """Replays the one dead letter of a task, when it is there; what the task returns then."""
    until(lambda: made.backlog() == 0)
    letters = dead_letters(made.app, "celery")
    [letter] = [each for each in letters.scan() if (each.task, each.id) == (task, task_id)]
    assert letters.replay(Order(addresses=[letter.address])) == 1
    until(lambda: made.app.AsyncResult(task_id).state == "SUCCESS")
    return made.app.AsyncResult(task_id).result


def test_header_values_come_as_they_were(made: Crew) -> None:
    typed = made.app.tasks["typed"]
    at_once = typed.apply_async(tuple(OWN), headers=OWN)
    delayed = typed.apply_async(tuple(OWN), headers=OWN, countdown=2.1)
    retried = typed.apply_async(tuple(OWN), {"failures": 2}, headers=OWN)
    for result in (at_once, delayed, retried):
        assert result.get(timeout=PATIENCE) == AS_THEY_WERE
    replayed = typed.apply_async(tuple(OWN), {"dies": True}, headers=OWN)
    assert replay(made, "typed", replayed.id) == AS_THEY_WERE


@pytest.mark.parametrize("value", [{1, 2}, object(), lambda: None], ids=["set", "object", "function"])
def test_what_would_not_come_as_it_was_is_refused_where_it_is_sent(made: Crew, value: Any) -> None:
    with pytest.raises(EncodeError, match="the header 'odd' cannot be sent"):
        made.app.tasks["typed"].apply_async((), headers={"odd": value})


@pytest.mark.parametrize(
    "headers",
    [
        {"ordering_key": 5},
        {"deduplication_id": ["d"]},
        {"task_version": 1.5},
        {"kafka_created": "now"},
        {"retries": "three"},
        {"id": 77},
        {"timelimit": "long"},
        {"stamps": "x"},
    ],
    ids=str,
)
def test_headers_that_nobody_could_read_are_refused_where_they_are_sent(made: Crew, headers: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(headers))):
        made.app.tasks["typed"].apply_async((), headers=headers)


def test_a_uuid_object_is_its_text_wherever_an_id_is_taken(made: Crew) -> None:
    app, add, total = made.app, made.app.tasks["add"], made.app.tasks["total"]
    one, two, three, four, five = (uuid.uuid4() for _ in range(5))
    assert add.apply_async((1, 2), task_id=one).id == str(one)
    add.apply_async((1, 3), task_id=two, countdown=2.1)
    assert app.send_task("add", (1, 4), task_id=three).get(timeout=PATIENCE) == 5
    assert app.AsyncResult(one).get(timeout=PATIENCE) == 3
    assert app.AsyncResult(one).state == add.AsyncResult(one).state == "SUCCESS"
    assert app.AsyncResult(two).get(timeout=PATIENCE) == 4
    signatures = [add.s(n, n).set(task_id=uuid.uuid4()) for n in range(3)]
    assert chord(signatures, total.s()).apply_async(task_id=four).get(timeout=PATIENCE) == 6
    saved = group(add.s(n, 1) for n in range(2)).apply_async()
    saved.id = five
    saved.save()
    assert app.GroupResult.restore(five).get(timeout=PATIENCE) == [1, 2]
    assert kafka_exec.remark("seen", task_id=one, by="me", app=app).text == "seen"
    assert app.backend.history(str(one)).remarks[0].text == "seen"
    app.AsyncResult(one).forget()
    assert app.AsyncResult(str(one)).state == "PENDING"


def test_a_uuid_object_revokes(made: Crew) -> None:
    app, task_id = made.app, uuid.uuid4()
    app.control.revoke(task_id)
    until(lambda: [ids for ids in (app.control.inspect(timeout=2).revoked() or {}).values() if str(task_id) in ids])
    with pytest.raises(TaskRevokedError):
        app.tasks["work"].apply_async(task_id=task_id).get(timeout=PATIENCE)


def test_a_delayed_task_of_the_old_protocol_waits_in_kafka(made: Crew, old: Any) -> None:
    began = time.time()
    sent = old.tasks["work"].apply_async(countdown=4.2)
    made.effects.wait_for([sent.id], "begin")
    [begun] = [each for each in made.effects.all("begin") if each.task == sent.id]
    assert begun.time - began >= 4.0
    assert sent.id.encode() in {record.key() for record in committed(made.kafka, f"{made.prefix}.delay")}


def test_the_old_protocol_is_retried_keyed_deduplicated_and_expires(made: Crew, old: Any) -> None:
    typed = old.tasks["typed"]
    result = typed.apply_async(("a_uuid",), {"failures": 2}, headers={"a_uuid": OWN["a_uuid"]}, ordering_key="old")
    assert result.get(timeout=PATIENCE) == {"a_uuid": AS_THEY_WERE["a_uuid"]}
    first, second = (old.tasks["work"].apply_async(deduplication_id="once") for _ in range(2))
    after = old.tasks["work"].apply_async(ordering_key="old")
    expired = old.tasks["work"].apply_async(expires=datetime.now(timezone.utc) - timedelta(seconds=5))
    with pytest.raises(TaskRevokedError):
        expired.get(timeout=PATIENCE)
    made.effects.wait_for([first.id, after.id])
    assert first.id == second.id
    until(lambda: made.backlog() == 0)
    made.effects.assert_once([first.id, after.id])
    record = made.app.backend.history(result.id)
    assert (record.ordering_key, record.attempts, record.queue) == ("old", 3, "celery")
    assert record.offset is not None


def test_a_dead_letter_of_the_old_protocol_has_its_name(made: Crew, old: Any) -> None:
    sent = old.tasks["typed"].apply_async(("task",), {"failures": 1, "dies": True})
    assert replay(made, "typed", sent.id) == {"task": ["str", "typed"]}
