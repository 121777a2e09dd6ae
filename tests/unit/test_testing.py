"""The parts of kafka_exec.testing that need no Kafka."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest
from celery import Celery, current_app

from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.partition.ends import end
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import ENDED, Transition
from kafka_exec.testing import Workers, at_once, own_prefix, pointed, settings_for
from kafka_exec.testing import brokers as testing_brokers

PRODUCTION, TEST = "kafka-exec://production:9092/shop", "kafka-exec://127.0.0.1:1/test"


def test_an_app_uses_another_broker_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", PRODUCTION)
    monkeypatch.setenv("CELERY_RESULT_BACKEND", PRODUCTION)
    app = Celery("pointed", broker=PRODUCTION, backend=PRODUCTION, set_as_current=False)
    app.conf.kafka_exec_max_deliveries = 7
    before = current_app._get_current_object()
    backend = app.backend
    with pointed(app, {**settings_for(TEST), "kafka_exec_max_deliveries": 2}):
        assert current_app._get_current_object() is app
        assert app.connection_for_write().hostname == app.connection_for_read().hostname == "127.0.0.1"
        assert app.backend.as_uri() == TEST
        assert app.conf.kafka_exec_max_deliveries == 2
        assert "CELERY_BROKER_URL" not in os.environ
    assert current_app._get_current_object() is before
    assert os.environ["CELERY_BROKER_URL"] == PRODUCTION
    assert app.connection_for_write().hostname == app.connection_for_read().hostname == "production"
    assert app.backend is not backend
    assert app.backend.as_uri() == PRODUCTION
    assert app.conf.kafka_exec_max_deliveries == 7
    assert not app.conf.changes.get("kafka_exec_partitions")


@pytest.mark.parametrize(
    ("url", "begin", "rest"),
    [
        ("kafka-exec://h:9092", "kafka-exec://h:9092/", ""),
        ("kafka-exec://h1,h2:9092/", "kafka-exec://h1,h2:9092/", ""),
        ("kafka-execs://u:p@h:9092/ci?max_deliveries=2", "kafka-execs://u:p@h:9092/ci-", "?max_deliveries=2"),
    ],
)
def test_each_test_has_a_prefix(url: str, begin: str, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[str] = []
    monkeypatch.setattr(testing_brokers, "_delete_topics", deleted.append)
    with own_prefix(url) as one, own_prefix(url) as other:
        assert one != other
        for each in (one, other):
            assert each.startswith(begin)
            assert each.endswith(rest)
            assert len(each) == len(begin) + 12 + len(rest)
    assert deleted == [other, one]


def test_a_worker_process_needs_an_app_that_it_can_import(tmp_path: Path) -> None:
    app = Celery("nameless", set_as_current=False)
    with Workers(app, None, {}, tmp_path, None) as workers, pytest.raises(ValueError, match="kafka_app"):
        workers.process()


def test_what_would_wait_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(Celery, "send_task", lambda app, name, *args, **options: sent.append(options))
    app = Celery("waiting", broker="memory://", set_as_current=False)

    @app.task(name="later", shared=False)
    def task() -> None: ...

    with at_once(tmp_path / "waits") as kafka_time:
        task.apply_async(countdown=60, task_id="one")
        task.apply_async(eta="2100-01-01T00:00:00Z", task_id="two")
        task.apply_async(countdown=5, task_id="one", retries=1)
        task.apply_async(task_id="three")
    assert [(each.id, each.kind) for each in kafka_time.waits] == [
        ("one", "countdown"),
        ("two", "eta"),
        ("one", "retry"),
    ]
    assert kafka_time.of("one") == [60, 5]
    assert kafka_time.of(task)[1] > 365 * 86400
    assert kafka_time.of("three") == []
    assert all("countdown" not in options and "eta" not in options for options in sent)
    task.apply_async(countdown=60)
    assert len(kafka_time.waits) == 3


def test_an_end_tells_how_often_its_task_was_begun() -> None:
    ledger = Ledger("q", Progress(0))
    for _ in range(2):
        ledger.start(0, "worker")
    assert end(ledger, 0, None, None, at=0.0, is_copy=False) == [Transition(ENDED, 0, 2)]
    assert end(ledger, 1, None, None, at=0.0, is_copy=False) == [Transition(ENDED, 1, 0)]


def test_pytest_finds_the_fixtures() -> None:
    (found,) = (each for each in importlib.metadata.entry_points(group="pytest11") if each.name == "kafka_exec")
    assert found.value == "_kafka_exec_pytest"
