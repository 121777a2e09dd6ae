"""The extension of Flower: what Flower lacks is told once, and other brokers' apps see no difference."""

from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from kafka_exec import flower
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.flower.tasks import as_task

#: Made beforehand, since an app extends Flower.
OTHER = Celery("other", broker="memory://", set_as_current=False)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Modules in the place of Flower's."""
    found = {
        name: ModuleType(name) for name in ("flower.views", "flower.utils.tasks", "flower.views.tasks", "flower.app")
    }
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    return found


def test_a_flower_without_the_places_to_extend_is_told_once_and_works_on(
    modules: dict[str, ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "kafka_exec"):
        flower.extend()
        flower.extend()
    (told,) = (record.message for record in caplog.records)
    assert told.startswith("this version of Flower does not show all of Kafka: no queues (")
    assert all(f"no {what} (" in told for what in ("queues", "past tasks", "pages"))


def test_an_app_with_another_broker_and_other_results_has_flowers_own(modules: dict[str, ModuleType]) -> None:
    class BaseHandler:
        capp = OTHER

        def get_broker(self) -> str:
            return "Flower's own"

    vars(modules["flower.views"])["BaseHandler"] = BaseHandler
    vars(modules["flower.utils.tasks"])["get_task_by_id"] = lambda events, task_id: {"known": "Flower's own"}.get(
        task_id
    )
    flower.extend()
    assert BaseHandler().get_broker() == "Flower's own"
    events: Any = SimpleNamespace(capp=OTHER)
    for module in ("flower.utils.tasks", "flower.views.tasks"):
        get_task_by_id = vars(modules[module])["get_task_by_id"]
        assert get_task_by_id(events, "known") == "Flower's own"
        assert get_task_by_id(events, "unknown") is None


def test_a_flower_whose_server_is_another_one_starts_without_our_pages(
    modules: dict[str, ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    class Flower:
        def __init__(self, capp: Celery) -> None:
            self.capp = capp

    vars(modules["flower.app"])["Flower"] = Flower
    with caplog.at_level(logging.WARNING, "kafka_exec"):
        flower.extend()
        caplog.clear()
        assert Flower(OTHER).capp is OTHER
        assert caplog.messages == []
        ours = Celery("ours", broker="kafka-exec://127.0.0.1:1/none", set_as_current=False)
        assert Flower(ours).capp is ours
    (told,) = caplog.messages
    assert told.startswith("Flower has no pages of Kafka, and neither its API nor its metrics: ")


RECORD = StateRecord("t", State.DONE, "SUCCESS", name="add", started=10.0, finished=12.5, worker="w@h", result=3)
FLOWERS: Any = SimpleNamespace(tasks={}, workers={})


def test_a_state_record_becomes_a_task_of_events() -> None:
    found = as_task(RECORD, FLOWERS)
    facts = (found.uuid, found.name, found.state, found.started, found.succeeded, found.runtime, found.result)
    assert facts == ("t", "add", "SUCCESS", 10.0, 12.5, 2.5, "3")
    assert found.worker.hostname == "w@h"
    assert found.as_dict()["uuid"] == "t"


def test_of_a_worker_that_flower_knows_it_is_that_one() -> None:
    known = object()
    assert as_task(RECORD, SimpleNamespace(tasks={}, workers={"w@h": known})).worker is known


def test_a_task_that_runs_has_no_end() -> None:
    found = as_task(StateRecord("t", State.RUNNING, "STARTED", started=10.0, result={"pid": 1}), FLOWERS)
    assert (found.state, found.timestamp, found.succeeded, found.runtime, found.result) == (
        "STARTED",
        10.0,
        None,
        None,
        None,
    )
