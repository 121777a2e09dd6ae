"""Brokers and workers that stop, die, stand still or are not there yet, and records that are no tasks.

Judged by what tasks wrote to a file of their own. The longer outages are in tests/chaos.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery
from confluent_kafka import Producer
from kombu import serialization
from kombu.exceptions import OperationalError
from kombu.utils.uuid import uuid

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.broker.ports import free
from kafka_exec.core.message import envelope
from kafka_exec.errors import MessageTooLarge, NotConfirmed
from tests.integration.fault_app import make_app
from tests.integration.fault_tools import Effects, Load, Worker, read, until, workers

pytestmark = pytest.mark.alone

Start = Callable[..., Worker]

#: How soon all must flow again when the broker is back, seconds.
RECOVERY = 10.0


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects")


@pytest.fixture
def start() -> Iterator[Start]:
    with workers() as starter:
        yield starter


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[EmbeddedKafka]:
    """A broker that the tests of this module may stop; each finds it running."""
    with EmbeddedKafka() as broker:
        yield broker


@pytest.fixture
def fragile(own_kafka: EmbeddedKafka) -> Iterator[EmbeddedKafka]:
    own_kafka.start()
    yield own_kafka
    if own_kafka.running():
        own_kafka.resume()


@pytest.fixture
def fragile_url(fragile: EmbeddedKafka, prefix: str) -> str:
    return f"{fragile.url}/{prefix}"


def outage(kafka: EmbeddedKafka, url: str, effects: Effects, start: Start, length: float, *, kill: bool) -> None:
    """Takes a broker away from a worker and a publisher under load, gives it back, and checks all that is promised."""
    worker = start(url, effects, "outage")
    worker.wait_until_ready()
    with Load(make_app(url, kafka_exec_publish_timeout=3)) as load:
        load.wait_for(100)
        cpu, away = worker.cpu(), time.time()
        kafka.kill() if kill else kafka.stop()
        time.sleep(length)
        kafka.start()
        back = time.time()
        share = (worker.cpu() - cpu) / (back - away)
        recovered = until(lambda: effects.first("end", back), RECOVERY, "a task runs after the broker is back") - back
        load.wait_for(100)
    print(f"away {back - away:.1f} s, recovered after {recovered:.1f} s, CPU while away {share:.1%}", end=" ")
    print(f"{len(load.confirmed)} confirmed, {len(load.uncertain)} uncertain, slowest {load.slowest:.1f} s")

    effects.wait_for(set(load.confirmed))
    assert not load.unexpected
    # Connecting may take 3 s, publishing 3 s, with Celery's own retries of the connection.
    assert load.slowest < 15
    assert all(str(error) not in ("", "None") for error in load.uncertain.values())
    assert worker.is_alive
    assert share < 0.2
    assert len(worker.lines("does not answer")) == 1, worker.output
    assert len(worker.lines("answers again")) == 1, worker.output
    assert [task for task, runs in effects.count("begin").items() if runs > 1] == []


def test_a_stopped_broker_costs_nothing_but_time(
    fragile: EmbeddedKafka, fragile_url: str, effects: Effects, start: Start
) -> None:
    outage(fragile, fragile_url, effects, start, 30, kill=False)


def test_a_killed_broker_costs_nothing_but_time(
    fragile: EmbeddedKafka, fragile_url: str, effects: Effects, start: Start
) -> None:
    outage(fragile, fragile_url, effects, start, 0, kill=True)


def test_a_worker_waits_for_its_broker(
    fragile: EmbeddedKafka, fragile_url: str, effects: Effects, start: Start
) -> None:
    fragile.stop()
    worker = start(fragile_url, effects, "early")
    worker.wait_for("does not answer")
    cpu, began = worker.cpu(), time.monotonic()
    time.sleep(4)
    share = (worker.cpu() - cpu) / (time.monotonic() - began)
    fragile.start()
    back, away = time.time(), time.monotonic() - began
    task = make_app(fragile_url).tasks["work"].delay()
    effects.wait_for({task.id}, RECOVERY)
    print(f"worked {effects.first('end', back) - back:.1f} s after the broker was there, CPU before {share:.1%}")
    assert share < 0.2
    # One line of ours, and Celery's own at each try, every three seconds.
    assert len(worker.lines("does not answer")) <= 4 + away / 3, worker.output


def test_a_publisher_without_a_broker_gets_an_error_soon(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(f"kafka-exec://127.0.0.1:{free(['127.0.0.1'], set())}/{prefix}")
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(OperationalError, match=r"does not answer: .*Connection refused"):
            app.tasks["work"].delay()
        # Three tries of 3 s at most.
        assert time.monotonic() - began < 10
    assert len([r for r in caplog.records if "does not answer" in r.message]) == 1


def test_a_paused_broker_confirms_nothing(
    fragile: EmbeddedKafka, fragile_url: str, effects: Effects, start: Start
) -> None:
    worker = start(fragile_url, effects, "paused")
    worker.wait_until_ready()
    app = make_app(fragile_url, kafka_exec_publish_timeout=2)
    effects.wait_for({app.tasks["work"].delay().id})
    fragile.pause()
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
    fragile.resume()
    resumed = time.time()
    # A broker that stood still was fenced by its controller, and a request under way has its own time-out before another.
    ids = {task.id for task in (until(lambda: try_to_publish(app), 2 * RECOVERY) for _ in range(20))}
    effects.wait_for(ids)
    print(f"all well {time.time() - resumed:.1f} s after the broker went on")


def try_to_publish(app: Celery) -> Any:
    try:
        return app.tasks["work"].delay()
    except OperationalError:
        return None


def test_the_first_publish_on_a_paused_broker_says_not_confirmed(fragile: EmbeddedKafka, fragile_url: str) -> None:
    app = make_app(fragile_url, kafka_exec_publish_timeout=2)
    app.tasks["work"].delay()
    fragile.pause()
    began = time.monotonic()
    with pytest.raises(NotConfirmed):
        app.tasks["work"].delay()
    assert 1.5 < time.monotonic() - began < 5


def test_another_worker_takes_over_from_a_killed_one(broker_url: str, effects: Effects, start: Start) -> None:
    conf = {"kafka_exec_session_timeout": 3}
    victim = start(broker_url, effects, "victim", "-c", "4", **conf)
    victim.wait_until_ready()
    with Load(make_app(broker_url), seconds=0.02) as load:
        load.wait_for(200)
        until(lambda: len(effects.count("end")) > 100)
        heir = start(broker_url, effects, "heir", "-c", "4", **conf)
        heir.wait_until_ready()
        load.wait_for(200)
        victim.kill()
        killed = time.time()
        load.wait_for(100)
    effects.wait_for(set(load.confirmed))
    ended: dict[str, float] = {}
    again = []
    for at, task, what, _ in effects.lines():
        if what == "begin" and task in ended:
            again.append(killed - ended[task])
        if what == "end":
            ended.setdefault(task, at)
    print(f"{len(again)} finished tasks ran again, the oldest end {max(again, default=0):.2f} s before the kill")
    # The commit interval is 0.2 s; the rest is for a busy machine.
    assert all(age < 1.5 for age in again)


def test_a_worker_that_is_stopped_hands_over_at_once(broker_url: str, effects: Effects, start: Start) -> None:
    leaving = start(broker_url, effects, "leaving", "-c", "2")
    staying = start(broker_url, effects, "staying", "-c", "2")
    leaving.wait_until_ready()
    staying.wait_until_ready()
    app = make_app(broker_url)

    def share_work() -> bool:
        """True if both workers have run some of the latest tasks: then no partition is on its way any more."""
        ids = {app.tasks["work"].delay().id for _ in range(40)}
        effects.wait_for(ids)
        return len({pid for _, task, _, pid in effects.lines() if task in ids}) == 4

    until(share_work)
    with Load(app, seconds=0.1, pause=0.05) as load:
        load.wait_for(20)
        leaving.terminate()
        assert leaving.wait() == 0
        gone = time.time()
        load.wait_for(30)
    before = {task for task, at in load.confirmed.items() if at < gone}
    effects.wait_for(set(load.confirmed))
    began = {task: at for at, task, what, _ in reversed(effects.lines()) if what == "begin"}
    slowest = max(began[task] for task in before) - gone
    print(f"the last task of the worker that left began {slowest:.1f} s after its end")
    assert slowest < 3
    begun = effects.count("begin")
    assert [task for task in load.confirmed if begun[task] != 1] == []


def test_failover_to_the_broker_that_lives(broker_url: str, prefix: str, effects: Effects, start: Start) -> None:
    urls = f"kafka-exec://127.0.0.1:{free(['127.0.0.1'], set())}/{prefix};{broker_url}"
    worker = start(urls, effects, "failover")
    app = make_app(urls)
    ids = {app.tasks["work"].delay().id for _ in range(5)}
    try:
        effects.wait_for(ids)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{worker.output}") from None
    worker.terminate()
    assert worker.wait() == 0


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


def test_what_is_no_task_becomes_a_dead_letter(
    kafka: EmbeddedKafka, broker_url: str, prefix: str, effects: Effects, start: Start
) -> None:
    app = make_app(broker_url)
    effects_before = app.tasks["work"].delay()
    producer = Producer(kafka.client_config())
    topic = f"{prefix}.queue.celery"

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
    worker = start(broker_url, effects, "undertaker")
    worker.wait_until_ready()
    after = app.tasks["work"].delay()
    effects.wait_for({effects_before.id, after.id})

    dead = {record.key().decode(): record for record in read(kafka, f"{prefix}.dead.celery", 7)}
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
        app.tasks["work"].delay(0, "x" * 2_000_000)
    app.tasks["work"].delay()


# -- memory ------------------------------------------------------------------------------------------------------------


def seed(kafka: EmbeddedKafka, app: Celery, topic: str, count: int, seconds: float) -> None:
    """Writes a backlog of tasks, much faster than by delay()."""
    app.tasks["work"].delay()  # makes the topic
    producer = Producer({**kafka.client_config(), "linger.ms": 20, "queue.buffering.max.messages": count})
    for _ in range(count):
        message = task_message(app)
        body = f'[[{seconds}], {{}}, {{"callbacks": null, "errbacks": null, "chain": null, "chord": null}}]'.encode()
        producer.produce(topic, body, message.key, headers=envelope.encode(message))
        producer.poll(0)
    assert producer.flush(60) == 0


def unique_memory(process: psutil.Process) -> float:
    """Megabytes that only this process has."""
    return float(process.memory_full_info().uss) / 1e6


def test_memory_does_not_grow_with_the_backlog(
    kafka: EmbeddedKafka, broker_url: str, prefix: str, effects: Effects, start: Start
) -> None:
    app = make_app(broker_url)
    worker = start(broker_url, effects, "idle")
    effects.wait_for({app.tasks["work"].delay().id})
    idle = unique_memory(worker.parent)
    worker.kill()
    seed(kafka, app, f"{prefix}.queue.celery", 50_000, 0.2)
    worker = start(broker_url, effects, "idle")
    done = len(effects.lines())
    until(lambda: len(effects.lines()) > done + 20)
    highest, steady = unique_memory(worker.parent), time.monotonic()
    while time.monotonic() - steady < 4:
        time.sleep(0.2)
        if (now := unique_memory(worker.parent)) > highest + 0.5:
            highest, steady = now, time.monotonic()
    print(f"idle {idle:.0f} MB, with the backlog {highest:.0f} MB")
    assert highest - idle < 60
