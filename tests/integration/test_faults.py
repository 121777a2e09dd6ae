"""Brokers and workers that stop, die, stand still or are not there yet, and records that are no tasks.

Judged by what tasks wrote to a file of their own. The longer outages are in tests/chaos.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from confluent_kafka import Producer
from kombu import serialization
from kombu.exceptions import OperationalError
from kombu.utils.uuid import uuid

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.message import envelope
from kafka_exec.errors import MessageTooLarge, NotConfirmed
from tests.integration.app import make_app
from tests.integration.load import Load
from tests.integration.records import read
from tests.integration.workers import Crew, crew, until

#: How long an app waits for a connection, seconds.
CONF = {"broker_connection_timeout": 3}

#: How soon all must flow again when the broker is back, seconds.
RECOVERY = 10.0


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, **CONF) as found:
        yield found


@pytest.fixture
def exposed(fragile: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    """A crew whose broker may be stopped."""
    with crew(fragile, tmp_path, **CONF) as found:
        yield found


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which no broker is, nor comes to be: its port is taken, and nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def outage(made: Crew, length: float, *, kill: bool) -> None:
    """Takes its broker away from a worker and a publisher under load, gives it back, and checks all that is promised."""
    worker = made.start("outage", "-c", "2")
    made.ready(worker)
    with Load(make_app(made.url, kafka_exec_publish_timeout=3, **CONF)) as load:
        load.wait_for(100)
        cpu, away = worker.cpu(), time.time()
        made.kafka.kill() if kill else made.kafka.stop()
        time.sleep(length)
        made.kafka.start()
        back = time.time()
        share = (worker.cpu() - cpu) / (back - away)
        recovered = until(lambda: first_end(made, back), RECOVERY, "a task runs after the broker is back") - back
        load.wait_for(100)
    print(f"away {back - away:.1f} s, recovered after {recovered:.1f} s, CPU while away {share:.1%}", end=" ")
    print(f"{len(load.confirmed)} confirmed, {len(load.uncertain)} uncertain, slowest {load.slowest:.1f} s")

    made.effects.wait_for(load.confirmed)
    assert not load.unexpected
    # Connecting may take 3 s, publishing 3 s, with Celery's own retries of the connection, on a machine that is busy.
    assert load.slowest < 25
    assert all(str(error) not in ("", "None") for error in load.uncertain.values())
    assert worker.is_alive
    assert share < 0.2
    assert len(worker.lines("does not answer")) == 1, worker.output
    assert len(worker.lines("answers again")) == 1, worker.output
    assert [task for task, runs in made.effects.count("begin").items() if runs > 1] == []


def first_end(made: Crew, after: float) -> float | None:
    """The first time that a task ended after a time, epoch seconds."""
    return next((effect.time for effect in made.effects.all() if effect.time >= after), None)


@pytest.mark.timed
def test_a_stopped_broker_costs_nothing_but_time(exposed: Crew) -> None:
    outage(exposed, 10, kill=False)


@pytest.mark.timed
def test_a_killed_broker_costs_nothing_but_time(exposed: Crew) -> None:
    outage(exposed, 0, kill=True)


@pytest.mark.timed
def test_a_worker_waits_for_its_broker(exposed: Crew) -> None:
    exposed.kafka.stop()
    worker = exposed.start("early", "-c", "2")
    worker.wait_for_line("does not answer")
    cpu, began = worker.cpu(), time.monotonic()
    time.sleep(4)
    share = (worker.cpu() - cpu) / (time.monotonic() - began)
    exposed.kafka.start()
    back, away = time.time(), time.monotonic() - began
    exposed.effects.wait_for(exposed.send("work"), timeout=RECOVERY)
    print(f"worked {first_end(exposed, back) - back:.1f} s after the broker was there, CPU before {share:.1%}")
    assert share < 0.2
    # One line of ours, and Celery's own at each try, every three seconds.
    assert len(worker.lines("does not answer")) <= 4 + away / 3, worker.output


@pytest.mark.timed
def test_a_publisher_without_a_broker_gets_an_error_soon(
    nobody: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(f"kafka-exec://{nobody}/{prefix}", broker_connection_timeout=1)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(OperationalError, match=r"does not answer: .*Connection refused"):
            app.tasks["work"].delay()
        # Celery's tries of 1 s each, and its pauses between them.
        assert time.monotonic() - began < 8
    assert len([r for r in caplog.records if "does not answer" in r.message]) == 1


@pytest.mark.timed
def test_a_paused_broker_confirms_nothing(exposed: Crew) -> None:
    exposed.ready(exposed.start("paused", "-c", "2"))
    app = make_app(exposed.url, kafka_exec_publish_timeout=2, **CONF)
    exposed.effects.wait_for([app.tasks["work"].delay().id])
    exposed.kafka.pause()
    took = []
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(OperationalError) as caught:
            app.tasks["work"].delay()
        took.append(time.monotonic() - began)
        print(f"{took[-1]:.1f} s: {caught.value!r}")
    assert isinstance(caught.value, OperationalError)
    assert 1.5 < took[0] < 6
    assert max(took) < 15
    exposed.kafka.resume()
    resumed = time.time()
    # A broker that stood still was fenced by its controller, and a request under way has its own time-out before another.
    ids = [task.id for task in (until(lambda: try_to_publish(app), 2 * RECOVERY) for _ in range(20))]
    exposed.effects.wait_for(ids)
    print(f"all well {time.time() - resumed:.1f} s after the broker went on")


def try_to_publish(app: Celery) -> Any:
    try:
        return app.tasks["work"].delay()
    except OperationalError:
        return None


@pytest.mark.timed
def test_the_first_publish_on_a_paused_broker_says_not_confirmed(fragile: EmbeddedKafka, prefix: str) -> None:
    app = make_app(f"{fragile.url}/{prefix}", kafka_exec_publish_timeout=2, **CONF)
    app.tasks["work"].delay()
    fragile.pause()
    began = time.monotonic()
    with pytest.raises(NotConfirmed):
        app.tasks["work"].delay()
    assert 1.5 < time.monotonic() - began < 5


@pytest.mark.timed
def test_another_worker_takes_over_from_a_killed_one(made: Crew) -> None:
    conf = {"kafka_exec_session_timeout": 3}
    victim = made.start("victim", "-c", "4", **conf)
    made.ready(victim)
    with Load(make_app(made.url, **CONF), seconds=0.02) as load:
        load.wait_for(100)
        until(lambda: len(made.effects.count()) > 50)
        made.ready(made.start("heir", "-c", "4", **conf), queue=None)
        load.wait_for(100)
        victim.kill()
        killed = time.time()
        load.wait_for(100)
    made.effects.wait_for(load.confirmed)
    ended = {effect.task: effect.time for effect in reversed(made.effects.all())}
    again = [killed - ended[begin.task] for begin in made.effects.all("begin") if begin.time > ended[begin.task]]
    print(f"{len(again)} finished tasks ran again, the oldest end {max(again, default=0):.2f} s before the kill")
    # The commit interval is 0.2 s; the rest is for a busy machine.
    assert all(age < 1.5 for age in again)


@pytest.mark.timed
def test_a_worker_that_is_stopped_hands_over_at_once(made: Crew) -> None:
    leaving, staying = (made.start(name, "-c", "2") for name in ("leaving", "staying"))
    made.ready(leaving, staying)

    def share_work() -> bool:
        """True if both workers have run some of the latest tasks: then no partition is on its way any more."""
        ids = made.send("work", number=40)
        made.effects.wait_for(ids)
        return len({effect.pid for effect in made.effects.all() if effect.task in ids}) == 4

    until(share_work)
    with Load(made.app, seconds=0.1, pause=0.05) as load:
        load.wait_for(20)
        leaving.stop()
        gone = time.time()
        load.wait_for(30)
    before = {task for task, at in load.confirmed.items() if at < gone}
    made.effects.wait_for(load.confirmed)
    began = {effect.task: effect.time for effect in reversed(made.effects.all("begin"))}
    slowest = max(began[task] for task in before) - gone
    print(f"the last task of the worker that left began {slowest:.1f} s after its end")
    assert slowest < 3
    begun = made.effects.count("begin")
    assert [task for task in load.confirmed if begun[task] != 1] == []


def test_failover_to_the_broker_that_lives(kafka: EmbeddedKafka, nobody: str, prefix: str, tmp_path: Path) -> None:
    urls = f"kafka-exec://{nobody}/{prefix};{kafka.url}/{prefix}"
    with crew(kafka, tmp_path, url=urls, **CONF) as made:
        worker = made.start("failover", "-c", "2")
        ids = made.send("work", number=5)
        try:
            made.effects.wait_for(ids)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{worker.output}") from None
        worker.stop()


# -- records that are no tasks -----------------------------------------------------------------------------------------


def task_message(app: Celery, name: str = "work", body: bytes | None = None, **changes: Any) -> envelope.Message:
    """A task message as this app would send it, with changes."""
    message = app.amqp.task_protocols[2](uuid(), name, (), {})
    content_type, encoding, payload = serialization.dumps(message.body, "json")
    made = envelope.Message(
        body=(body if body is not None else payload.encode()),
        content_type=content_type,
        content_encoding=encoding,
        headers=message.headers,
        properties={**message.properties, "delivery_mode": 2},
        routing_key="celery",
    )
    return made._replace(**changes)


def test_what_is_no_task_becomes_a_dead_letter(made: Crew) -> None:
    app = made.app
    before = made.send("work")
    producer = Producer(made.kafka.client_config())
    topic = f"{made.prefix}.queue.celery"

    def write(value: bytes | None, headers: list[tuple[str, bytes]], key: str) -> None:
        producer.produce(topic, value, key, headers=headers)

    write(b"hello", [], "foreign")
    write(None, [], "tombstone")
    write(b"hello", [("content-type", b"application/json"), ("headers", b"{broken")], "bad-headers")
    write(b"hello", [("content-type", b"application/json"), ("kafka-exec-version", b"99")], "version")
    for key, message in {
        "broken-json": task_message(app, body=b"[[1, 2"),
        "pickle": task_message(app, content_type="application/x-python-serialize", content_encoding="binary"),
        "no-task-header": task_message(app)._replace(headers={}),
    }.items():
        write(message.body, envelope.encode(message), key)
    assert producer.flush(10) == 0
    worker = made.start("undertaker", "-c", "2")
    made.ready(worker)
    made.effects.wait_for([*before, *made.send("work")])

    dead = {record.key().decode(): record for record in read(made.kafka, f"{made.prefix}.dead.celery", 7)}
    reasons = {}
    for key, record in dead.items():
        headers = dict(record.headers())
        reasons[key] = headers["dead-reason"].decode()
        assert headers["dead-topic"].decode() == topic
        assert int(headers["dead-partition"]) >= 0
        assert int(headers["dead-offset"]) >= 0
        assert headers["dead-error"]
    assert reasons == {
        "foreign": "no-content-type",
        "tombstone": "no-content-type",
        "bad-headers": "bad-headers",
        "version": "unknown-version",
        "broken-json": "undecodable",
        "pickle": "undecodable",
        "no-task-header": "not-a-task",
    }
    assert dead["foreign"].value() == b"hello"
    assert dead["broken-json"].value() == b"[[1, 2"
    assert worker.is_alive


def test_a_payload_that_is_too_large_is_the_callers_error(broker_url: str) -> None:
    app = make_app(broker_url)
    with pytest.raises(MessageTooLarge, match=r"(?i)too large"):
        app.tasks["fail"].delay("x" * 2_000_000)
    app.tasks["work"].delay()


# -- memory ------------------------------------------------------------------------------------------------------------


def seed(made: Crew, count: int, seconds: float) -> None:
    """Writes a backlog of tasks, much faster than by delay()."""
    made.send("work")  # makes the topic
    topic = f"{made.prefix}.queue.celery"
    producer = Producer({**made.kafka.client_config(), "linger.ms": 20, "queue.buffering.max.messages": count})
    for _ in range(count):
        message = task_message(made.app)
        body = f'[[{seconds}], {{}}, {{"callbacks": null, "errbacks": null, "chain": null, "chord": null}}]'.encode()
        producer.produce(topic, body, message.key, headers=envelope.encode(message))
        producer.poll(0)
    assert producer.flush(60) == 0


@pytest.mark.timed
def test_memory_does_not_grow_with_the_backlog(made: Crew) -> None:
    worker = made.start("idle", "-c", "2")
    made.effects.wait_for(made.send("work"))
    idle = worker.memory()
    worker.kill()
    seed(made, 50_000, 0.2)
    worker = made.start("idle", "-c", "2")
    done = len(made.effects.all())
    until(lambda: len(made.effects.all()) > done + 10)
    highest, steady = worker.memory(), time.monotonic()
    while time.monotonic() - steady < 4:
        time.sleep(0.2)
        if (now := worker.memory()) > highest + 0.5:
            highest, steady = now, time.monotonic()
    print(f"idle {idle:.0f} MB, with the backlog {highest:.0f} MB")
    assert highest - idle < 60
