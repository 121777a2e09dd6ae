"""Settings reach Kafka from wherever they are written, and nothing that means nothing passes without a word."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured
from kombu import Connection, Exchange, Queue

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import ChannelFailed, ConfigurationError
from kafka_exec.settings import once
from kafka_exec.settings.appconf import broker_home, result_home
from tests.integration.workers import APP, ROOT, crew, environment, until


@pytest.fixture(autouse=True)
def _unsaid() -> Iterator[None]:
    once.forget()
    yield
    once.forget()


def make(url: str, **conf: Any) -> Celery:
    app = Celery("settings", broker=url, set_as_current=False)
    app.config_from_object({"broker_url": url, **conf})
    return app


def test_the_later_place_wins(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place says all that comes after it, with another number."""
    places = ["configuration", "broker", "results", "given", "url", "environment"]
    settings = ["buffer", "max_deliveries", "session_timeout", "heartbeat", "publish_timeout", "commit_interval"]
    said = {place: dict.fromkeys(settings[number:], number + 1) for number, place in enumerate(places)}
    for name, value in said["environment"].items():
        monkeypatch.setenv(f"KAFKA_EXEC_{name.upper()}", str(value))
    query = "&".join(f"{name}={value}" for name, value in said["url"].items())
    url = f"{broker_url}?{query}"
    app = make(
        url,
        broker_transport_options=said["broker"],
        result_backend_transport_options=said["results"],
        **{f"kafka_exec_{name}": value for name, value in said["configuration"].items()},
    )
    expected = {name: number + 1 for number, name in enumerate(settings)}
    results = result_home(app, url).settings
    assert {name: getattr(results, name) for name in settings if name != "heartbeat"} == {
        name: number for name, number in expected.items() if name != "heartbeat"
    }
    with app.connection_for_write(transport_options=said["given"]) as connection:
        broker = connection.connect().space.settings
    assert {name: getattr(broker, name) for name in settings if name != "session_timeout"} == {
        name: number for name, number in expected.items() if name != "session_timeout"
    }
    assert (results.heartbeat, broker.session_timeout) == (3, 2)  # what has no such place has it from the one before
    # Beat and ``celery kafka`` have it from here, and Kombu alone knows these three places.
    assert broker_home(app).settings.commit_interval == 6
    with Connection(url, transport_options=said["given"]) as connection:
        alone = connection.connect().space.settings
    assert (alone.heartbeat, alone.publish_timeout, alone.commit_interval) == (4, 5, 6)


def test_chords_need_the_same_settings_in_both_urls(broker_url: str) -> None:
    url = f"{broker_url}?buffer=7"
    make(url, result_backend=url).backend._chords.check()
    for broker, results in ((url, broker_url), (broker_url, url)):
        with pytest.raises(ImproperlyConfigured, match="with the same prefix and the same settings"):
            make(broker, result_backend=results).backend._chords.check()


def test_librdkafkas_properties_come_from_the_environment(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_EXEC_KAFKA", '{"no.such.property": 5}')
    with pytest.raises(ConfigurationError, match=r"no\.such\.property"):
        broker_home(make(broker_url, broker_transport_options={"kafka": {"linger.ms": 5}}))
    monkeypatch.setenv("KAFKA_EXEC_KAFKA", '{"linger.ms": 5}')
    assert broker_home(make(broker_url, broker_transport_options={"kafka": {"no.such.property": 5}}))


def test_a_wrong_variable_is_refused_at_every_connection(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make(broker_url)
    assert broker_home(app)
    monkeypatch.setenv("KAFKA_EXEC_BUFER", "5")
    message = "unknown setting KAFKA_EXEC_BUFER, did you mean KAFKA_EXEC_BUFFER"
    with pytest.raises(ConfigurationError, match=message):
        broker_home(app)
    with pytest.raises(ConfigurationError, match=message):
        result_home(make("memory://"), broker_url)
    with pytest.raises(ConfigurationError, match=message), Connection(broker_url) as connection:
        connection.connect()


def test_processes_follow_their_environment_and_tell_once(
    kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = {
        "broker_transport_options": {"visibility_timeout": 60, "max_retries": 3},
        "result_backend_transport_options": {"retry_policy": {}},
        "task_acks_late": False,
        "redbeat_lock_timeout": 5,
        "kafka_exec_partitions": {"queue": 5, "state": 5},
    }
    with crew(kafka, tmp_path, backend="same", **conf) as made:
        monkeypatch.setenv("KAFKA_EXEC_PARTITIONS", json.dumps({"queue": 3, "state": 2}))
        monkeypatch.setenv("KAFKA_EXEC_TOPICS", json.dumps({"schedule": "{prefix}.plan"}))
        worker, beat = made.start("w1", "-c", "2"), made.start_beat("beat")
        made.ready(worker, queue=None)

        def partitions(topic: str) -> int:
            found = kafka.admin().list_topics(timeout=10).topics
            return len(found[f"{made.prefix}.{topic}"].partitions) if f"{made.prefix}.{topic}" in found else 0

        until(lambda: partitions("plan") == 1, what="beat's schedule")
        made.effects.wait_for(made.send("work", number=4))
        until(lambda: partitions("state"), what="the result back end's topic")
        assert (partitions("queue.celery"), partitions("state"), partitions("schedule")) == (3, 2, 0)
        for process in (worker, beat):
            (line,) = [line for line in process.output.splitlines() if "docs/migration.md" in line]
            assert ": WARNING/MainProcess] " in line  # it is in the log, which the worker has set up by now
            assert 'broker_transport_options["visibility_timeout"]: not needed' in line
            assert 'result_backend_transport_options["retry_policy"]: not needed' in line
            assert "task_acks_late=False: a task that has begun is lost" in line
            assert "redbeat_lock_timeout: RedBeat's" in line
        for arguments in (["kafka", "nodes"], ["kafka", "executions"], ["beat", "-S", "kafka-exec"]):
            done = subprocess.run(
                [sys.executable, "-m", "celery", "-A", APP, *arguments],
                cwd=ROOT,
                env=environment(made.url, tmp_path, {}, **made.env, KAFKA_EXEC_HEARTBEET="5"),
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode != 0
            assert "KAFKA_EXEC_HEARTBEET, did you mean KAFKA_EXEC_HEARTBEAT" in done.stdout + done.stderr


def test_a_worker_with_a_queue_that_promises_too_much_ends(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    queues = {"jobs": {"queue_arguments": {"x-dead-letter-exchange": "dlx"}}}
    with crew(kafka, tmp_path) as made:
        worker = made.start("w1", "-c", "1", task_queues=queues)
        assert worker.wait() != 0
        assert "queue 'jobs': the argument x-dead-letter-exchange is not supported" in worker.output


# Queues


@pytest.fixture
def channel(broker_url: str) -> Iterator[Any]:
    with make(broker_url).connection_for_write() as connection:
        yield connection.default_channel


@pytest.mark.parametrize("options", [{}, {"exclusive": True}, {"auto_delete": True, "durable": False}], ids=str)
def test_arguments_are_refused_at_the_declaration(channel: Any, options: Any) -> None:
    for arguments in ({"x-single-active-consumer": True}, {"x-max-priority": -1}, {"x-zzz": 1}):
        with pytest.raises(ConfigurationError, match=f"^queue 'jobs': .*{next(iter(arguments))}"):
            Queue("jobs", queue_arguments=arguments, **options)(channel).declare()
    with pytest.raises(ConfigurationError, match=r"^queue 'jobs': the argument x-max-length is not supported"):
        Queue("jobs", max_length=5, **options)(channel).declare()
    quorum = Queue(
        "jobs", queue_arguments={"x-queue-type": "quorum", "x-queue-mode": "lazy"}, max_priority=3, **options
    )
    quorum(channel).declare()


def test_a_consumers_and_an_exchanges_arguments_are_refused(channel: Any) -> None:
    queue = Queue("jobs", consumer_arguments={"x-priority": 5})(channel)
    queue.declare()
    with pytest.raises(ConfigurationError, match="the argument 'x-priority' of a consumer is not supported"):
        queue.consume("tag", lambda message: None)
    with pytest.raises(ConfigurationError, match="exchange 'e': the argument 'alternate-exchange' is not supported"):
        Exchange("e", arguments={"alternate-exchange": "other"})(channel).declare()


def test_a_priority_that_changes_nothing_is_told_once_for_each_queue(
    broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make(broker_url, task_queues=[Queue("plain"), Queue("other"), Queue("stepped", max_priority=9)])
    caplog.set_level(logging.WARNING)
    for queue in ("plain", "plain", "stepped", "other", "plain"):
        app.send_task("x", queue=queue, priority=5)
    app.send_task("x", queue="stepped", priority=0)
    app.send_task("x", queue="stepped", priority=5, ordering_key="k")
    lines = [record.getMessage().partition(" change nothing")[0] for record in caplog.records]
    assert lines == [
        "priorities of messages for queue plain",
        "priorities of messages for queue other",
        "priorities of messages for queue stepped that have an ordering key",
    ]
    for priority in ("high", -1, 300, 2.5):
        with pytest.raises(ChannelFailed, match="the priority of a message must be a whole number from 0 to 255"):
            app.send_task("x", queue="stepped", priority=priority)


def test_a_prefix_that_is_a_number_is_told_once(kafka: EmbeddedKafka, caplog: pytest.LogCaptureFixture) -> None:
    number = str(uuid.uuid4().int)[:12]
    for _ in range(2):
        assert broker_home(make(f"{kafka.url}/{number}")).topics.state == f"{number}.state"
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"the topics are called {number}.…" in line
