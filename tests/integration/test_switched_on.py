"""The guarantees are there wherever the broker's URL was given, nowhere else, and an app that would lack them is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured
from kombu import Connection

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from tests.integration.broker_ways import OTHER, WAYS, add_tasks
from tests.integration.way_workers import check_way

URL = "kafka-exec://127.0.0.1:1/ways"


@pytest.mark.parametrize("way", WAYS)
def test_what_is_safer_follows_the_effective_url(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, environment, arguments, is_ours = WAYS[way]
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    app = make(URL)
    add_tasks(app)
    found = environment(URL)
    if arguments(URL):  # Celery's own command puts it there
        found = {"CELERY_BROKER_URL": URL}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    task = app.tasks["work"]
    assert app.connection_for_write().as_uri().startswith("kafka-exec://") is is_ours
    assert (task.acks_late, bool(task.reject_on_worker_lost), task.track_started) == (is_ours,) * 3
    assert app.conf.task_acks_late is is_ours
    assert (app.conf.worker_consumer == "kafka_exec.worker:Consumer") is is_ours


def test_it_follows_when_it_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("again", set_as_current=False)
    task = add_tasks(app)["work"]
    found = []
    for url in (URL, OTHER, URL):
        monkeypatch.setenv("CELERY_BROKER_URL", url)
        found.append((app.conf.task_acks_late, task.acks_late))
    assert found == [(True, True), (False, False), (True, True)]


def test_what_a_task_or_the_user_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("said", set_as_current=False)
    app.conf.task_reject_on_worker_lost = False
    app.conf.task_annotations = {"annotated": {"track_started": False}}

    @app.task(name="early", acks_late=False, shared=False)
    def early() -> None: ...

    @app.task(name="annotated", shared=False)
    def annotated() -> None: ...

    assert (early.acks_late, annotated.track_started) == (False, False)
    app.conf.broker_url = URL
    assert (early.acks_late, early.reject_on_worker_lost, early.track_started) == (False, False, True)
    assert (annotated.acks_late, annotated.track_started) == (True, False)
    assert not app.conf.value_set_for("task_acks_late")


# Made without our parts


def unprepared(url: str = URL, **more: Any) -> Celery:
    """An app as one is that was made before the import."""
    return Celery("early", broker=url, set_as_current=False, fixups=[], **more)


@pytest.mark.parametrize(
    "use",
    [
        lambda app: app.send_task("x"),
        lambda app: app.control.ping(),
        lambda app: app.connection_for_read().connect(),
        lambda app: app.AsyncResult("x").state,
    ],
)
def test_an_app_without_our_parts_is_refused_at_its_first_connection(use: Any) -> None:
    app = unprepared(backend=URL)
    try:
        with pytest.raises(
            ImproperlyConfigured, match=r"app 'early' .*import kafka_exec before Celery.*install\(app\)"
        ):
            use(app)
    finally:
        app.close()


def test_another_app_of_the_process_is_not_refused_for_it(broker_url: str) -> None:
    bad = unprepared(broker_url)
    good = Celery("good", broker=broker_url, set_as_current=False)
    try:
        with pytest.raises(ImproperlyConfigured):
            bad.send_task("x")
        good.send_task("x")
        with pytest.raises(ImproperlyConfigured), Connection(broker_url) as connection:
            connection.connect()
    finally:
        bad.close()
    with Connection(broker_url) as connection:
        connection.connect()
    good.close()


def test_celerys_default_app_is_prepared_when_it_was_made_before_us() -> None:
    """With green pools it is."""
    code = "from celery import current_app; current_app.main; import kafka_exec; print(current_app._fixups)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "kafka_exec.app.fixup.Fixup" in done.stdout, done.stderr


def test_celerys_default_app_is_prepared_too(kafka: EmbeddedKafka, prefix: str, tmp_path: Path) -> None:
    """It runs ``celery -b URL …`` without an app."""
    command = [sys.executable, "-m", "celery", "-b", f"{kafka.url}/{prefix}", "kafka", "nodes"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("NAME")


@pytest.mark.filterwarnings("ignore::celery.exceptions.SecurityWarning")
def test_a_worker_never_starts_with_another_consumer(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery._state._task_join_will_block", False)  # which making a worker changes for good
    app = Celery("consumer", broker=broker_url, set_as_current=False)
    app.conf.worker_consumer = "celery.worker.consumer:Consumer"
    with pytest.raises(ImproperlyConfigured, match=r"worker_consumer is celery\.worker\.consumer\.consumer:Consumer"):
        app.Worker(pool="solo", concurrency=1)
    app.close()


# Celery's own methods stay patchable


def work() -> None: ...


@pytest.mark.parametrize("url", [URL, "memory://"])
@pytest.mark.parametrize("name", ["send_task", "_connection", "producer_or_acquire", "_task_from_fun"])
def test_who_replaces_a_method_of_celerys_later_is_heard(url: str, name: str) -> None:
    app = Celery("patched", broker=url, set_as_current=False)
    calls = []
    original = getattr(Celery, name)

    def replaced(self: Celery, *args: Any, **kwargs: Any) -> Any:
        calls.append(self)
        return original(self, *args, **kwargs)

    with mock.patch.object(Celery, name, replaced):
        if name == "_task_from_fun":
            app.task(name="x", lazy=False, shared=False)(work)
        elif name == "_connection":
            app.connection_for_write()
        elif name == "producer_or_acquire":
            with app.producer_or_acquire():
                pass
        else:
            with (
                mock.patch("celery.app.amqp.AMQP.send_task_message", create=True),
                mock.patch.object(type(app.amqp), "producer_pool"),
            ):
                app.send_task("x")
    assert calls[0] is app


def test_a_mock_in_the_place_of_a_method_gets_the_call() -> None:
    app = Celery("mocked", broker=URL, set_as_current=False)
    with mock.patch.object(Celery, "send_task") as send:
        app.send_task("x", (1,), ordering_key="k")
    (name, args, *_), options = send.call_args
    assert (name, args, options["headers"]["ordering_key"]) == ("x", (1,), "k")


def test_what_stood_before_a_method_before_install_stays() -> None:
    app = unprepared()
    app.send_task = mock.Mock(return_value="own")
    kafka_exec.install(app)
    assert app.send_task("x") == "own"


# With real workers; ./dev chaos has all ways


@pytest.mark.parametrize("way", ["environment", "celery -b, another in the code", "conf.update after a read"])
def test_what_runs_in_a_killed_worker_runs_again(way: str, kafka: EmbeddedKafka, tmp_path: Path) -> None:
    check_way(way, kafka, tmp_path)
