"""A task that is sent by its name is the message that its object sends; an object that is not registered sends none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import NotRegistered

import kafka_exec
from kafka_exec.kafka.publish.scopes import Outgoing, captured
from tests.integration.app import make_app


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    made = make_app(broker_url)
    made.tasks["work"].delay()
    yield made
    made.close()


def sent(send: Callable[..., Any]) -> tuple[Any, ...]:
    """The message that a call sends, without what differs from one call to the next."""
    with captured() as records:
        send(task_id="t")
    (record,) = records
    headers = dict(record.headers)
    told, properties = json.loads(headers.pop("headers") or b""), json.loads(headers.pop("properties") or b"")
    assert told.pop("kafka_created") > 0
    told.pop("ignore_result")  # None, by name: then what the worker's task says counts
    return Outgoing(record.topic, record.value, record.key, (), record.partition), headers, told, properties


@pytest.mark.parametrize(
    ("name", "args", "header"),
    [("add", (1, 2), "id"), ("keyed", ("customer-1",), "ordering_key"), ("count", ({"n": 1},), "task_version")],
)
def test_a_task_that_is_sent_by_its_name_is_the_message_of_its_object(
    app: Celery, name: str, args: tuple[Any, ...], header: str
) -> None:
    by_object = sent(lambda **options: app.tasks[name].apply_async(args, **options))
    by_name = sent(lambda **options: app.send_task(name, args, **options))
    assert by_name == by_object
    assert by_object[2][header]


def test_a_job_that_is_not_registered_sends_nothing(app: Celery) -> None:
    class Stray(kafka_exec.Job):
        name = "stray"
        steps = ("begin",)

    Stray.bind(app)
    with captured() as records, pytest.raises(NotRegistered, match="stray"):
        Stray().delay()
    assert records == []
    app.register_task(Stray())
    with captured() as records:
        app.tasks["stray"].delay()
    assert len(records) == 1
