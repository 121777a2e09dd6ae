"""Hostile records in all topics that workers read, and whether each of a worker's parts still does its work afterwards."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from random import Random
from typing import Any, NamedTuple

from celery import chord
from confluent_kafka import Producer

import kafka_exec
from kafka_exec import dead_letters
from kafka_exec.core.control.delay import DelayHeaders
from kafka_exec.core.message import envelope
from kafka_exec.core.worker.sharing import Grant
from kafka_exec.settings.appconf import broker_home
from tests.integration.workers import PATIENCE, Crew, until
from tests.unit import hostile
from tests.unit.hostile import BODY, HEADERS, HEARTBEAT, NASTY, NOW, OLD, PROPERTIES, dump, mutations

#: Offsets that no real task of a test has.
FAR = 10**12

#: What a worker with all its parts is started with, and what makes their turns short.
OPTIONS = ("-c", "2", "-B", "--scheduler", "kafka-exec")
CONF: dict[str, Any] = {
    "kafka_exec_wrong_node_timeout": 1,
    "beat_schedule": {"tick": {"task": "slotted", "schedule": 1.0}},
    "worker_prefetch_multiplier": 16,
}

Headers = list[tuple[str, "bytes | None"]]


class Spoiled(NamedTuple):
    """A record. ``topic``: its name after the prefix."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


def _messages(rng: Random, topic: str, more: Headers, exchange: str = "", body: Any = BODY) -> Iterator[Spoiled]:
    """A task's message with something else in one place: of its headers, properties, or body, or a header of the record."""
    # Such as could be run at once: those of one id, or of a version that nobody has, would wait for one another.
    nothing = dict.fromkeys(("ordering_key", "deduplication_id", "task_version", "eta"))
    known = {**HEADERS, "task": "add", **nothing}
    real = envelope.Message(
        dump(body), "application/json", "utf-8", {**known, "ordering_key": "k"}, PROPERTIES, exchange
    )
    headers: Headers = [*envelope.encode(real), ("keys-over", b"16"), *more]
    plain = [(name, value) for name, value in headers if name not in ("headers", "ordering-key", "retry-of")]
    for changed in mutations(dump(known), rng):
        yield Spoiled(topic, b"k", dump(body), [*plain, ("headers", changed)])
    for changed in mutations(dump(PROPERTIES), rng):
        kept = [(name, value) for name, value in headers if name != "properties"]
        yield Spoiled(topic, b"k", dump(body), [*kept, ("properties", changed)])
    for changed in mutations(dump(body), rng):
        yield Spoiled(topic, b"k", changed, headers)
    for changed in mutations(dump({**OLD, "task": "add"}), rng):
        yield Spoiled(topic, None, changed, [*plain, ("headers", b"{}")])
    for number, (name, _) in enumerate(headers):
        for nasty in (*NASTY, None):
            yield Spoiled(topic, b"\xff\xfe", dump(body), [*headers[:number], (name, nasty), *headers[number + 1 :]])
        yield Spoiled(topic, b"k", dump(body), [*headers, (name, b"twice")])
    # As large as the topic takes, so that a dead letter of it is larger.
    yield Spoiled(topic, b"large", b"x" * (1_048_588 - 2_000), plain[:3])


def _records(topic: str, key: bytes | None, records: Sequence[bytes], rng: Random) -> Iterator[Spoiled]:
    for record in records:
        for changed in mutations(record, rng):
            yield Spoiled(topic, key, changed, [])
            if rng.random() < 0.05:
                yield Spoiled(topic, rng.choice([None, b"", b"\xff", b"x" * 1000, b"[]"]), changed, [])


def _keyed(topic: str, rows: Sequence[tuple[Any, Any]], prefix: str, rng: Random) -> Iterator[Spoiled]:
    """Of tables whose keys are JSON too."""
    for key, value in rows:
        for changed in mutations(dump(value), rng):
            yield Spoiled(topic, prefix.encode() + dump(key), changed, [])
        for changed in mutations(dump(key), rng):
            yield Spoiled(topic, None if changed is None else prefix.encode() + changed, dump(value), [])


def _all(rng: Random, identity: str) -> list[Iterator[Spoiled]]:
    waiting: Headers = [*DelayHeaders("celery", 0, NOW).write([])]
    row = {
        "source": "added",
        "definition": "d",
        "task": "add",
        "schedule": "every 5 m",
        "paused": True,
        "since": NOW,
        "request": NOW,
        "start": NOW,
        "policy": {"after_end": False},
        "given": {"task": "add", "schedule": 300.0},
    }
    ping = {"method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None}
    event = {"type": "worker-heartbeat", "hostname": "g@h", "clock": 5, "timestamp": NOW, "utcoffset": 0, "freq": 2}
    journals = [*hostile.journal(identity, FAR)[:1], *hostile.journal("q", FAR)]
    ghost = Grant("incarnation", "q", 0, 5, 1, "id", 0)
    rows = [
        (["exchange", "e"], {"type": "topic"}),
        (["binding", "q", "e", "r.*"], {}),
        (["keys", "other"], {"over": 16}),
        (["expiring", "other"], {"expires": 1e9, "used": NOW}),
    ]
    changes, waits = (
        [(found["key"], found["value"]) for found in map(json.loads, records)]
        for records in (hostile.changelog(), hostile.changelog_of_waits())
    )
    return [
        _messages(rng, "queue.celery", []),
        _messages(rng, "delay", waiting),
        _messages(rng, "dead.celery", [("dead-reason", b"rejected"), ("dead-partition", b"0"), ("dead-offset", b"1")]),
        _messages(rng, "exchange.celery.pidbox", [], "celery.pidbox", ping),
        _messages(rng, "exchange.celeryev", [], "celeryev", event),
        _records("journal.celery", None, journals, rng),
        _records("nodes", b"ghost@h", [HEARTBEAT.encode(), Grant.encode([ghost])], rng),
        _records("control", b"g", hostile.chord_commands(), rng),
        _records("control", b"x", hostile.wait_commands(), rng),
        _keyed("control-state", changes, "chord:", rng),
        _keyed("control-state", waits, "wait:", rng),
        _records("control-state", b"position", [b"x"], rng),
        _records("delay-state", b"position", [b"x"], rng),
        _records("state", b"t", hostile.states()[:1], rng),
        _records("notes", b"t", hostile.states()[1:], rng),
        _records("steps", b"t/0", hostile.steps(), rng),
        _records("sync", None, hostile.signals(), rng),
        _records("schedule", b"ghost", [dump(row)], rng),
        _keyed("bindings", rows, "", rng),
        _records("revoked", b"i", [dump(NOW)], rng),
    ]


def spoiled(number: int, rng: Random, identity: str) -> list[Spoiled]:
    """So many records: a third for the queue, of the other topics as many each, again if there are not so many different."""
    found: list[Spoiled] = []
    queue, *others = _all(rng, identity)
    for each, share in ((queue, number // 3), *((other, number * 2 // 3 // len(others)) for other in others)):
        different = list(each)
        rng.shuffle(different)
        found += islice(cycle(different), share)
    rng.shuffle(found)
    return found


def sow(made: Crew, records: Sequence[Spoiled], between: Callable[[int], None] = lambda number: None) -> None:
    """Writes records to their topics, to any partition of them; ``between``: called before each thousandth."""
    producer = Producer({**made.kafka.client_config(), "linger.ms": 20, "message.max.bytes": 2_000_000})
    rng = Random(1)
    sizes = {name: len(found.partitions) for name, found in producer.list_topics(timeout=10).topics.items()}
    for number, record in enumerate(records):
        if number % 1000 == 0:
            between(number)
        topic = f"{made.prefix}.{record.topic}"
        partition = rng.randrange(sizes[topic])
        while True:
            try:
                producer.produce(topic, record.value, record.key, partition, headers=list(record.headers))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def topics_exist(made: Crew) -> None:
    """Waits until all topics are there that are spoiled, by using what makes them."""
    made.send("work", countdown=5)
    made.app.control.revoke("nobody")
    made.app.backend.remark("nobody", "text", "me")
    assert made.app.tasks["steps"].delay(1).get(timeout=PATIENCE) == [0]
    broker_home(made.app).dead_letters("celery")
    names = {each.topic for each in spoiled(1000, Random(1), "q")}
    admin = made.kafka.admin()
    until(lambda: {f"{made.prefix}.{name}" for name in names} <= admin.list_topics(timeout=10).topics.keys())


def identity_of(made: Crew) -> str:
    space = broker_home(made.app)
    return str(space.cluster.topics.identity(space.topics.queue("celery")))


def assert_all_works(made: Crew, timeout: float = PATIENCE) -> None:
    """A task through each part of a worker."""
    app, effects = made.app, made.effects
    ticks = len(effects.all("slot"))
    plain = made.send("work", number=10)
    delayed = made.send("work", countdown=2.5)
    keyed = [*made.send("work", number=2, ordering_key="one"), *made.send("stumble", 1, ordering_key="two")]
    flow = uuid.uuid4().hex[:8]
    durable = app.tasks["workflow"].delay(flow)
    total = chord([app.tasks["add"].s(n, n) for n in range(3)], app.tasks["total"].s()).delay()
    revoked = f"revoked-{uuid.uuid4().hex[:8]}"
    until(lambda: app.control.revoke(revoked) or revoked in made_revoked(made), timeout)  # a broadcast may be lost
    app.tasks["work"].apply_async(task_id=revoked)
    assert total.get(timeout=timeout) == 6
    assert kafka_exec.resume(app, f"approve-{flow}", "yes").outcome in ("kept", "continued")
    assert durable.get(timeout=timeout) == [1, "yes", 2, [3, 7], 21]
    effects.wait_for([*plain, *delayed, *keyed], timeout=timeout)
    assert until(lambda: app.AsyncResult(revoked).ready() and app.AsyncResult(revoked).state, timeout) == "REVOKED"
    assert until(lambda: app.control.inspect(timeout=2).ping(), timeout)
    until(lambda: len(effects.all("slot")) > ticks, timeout, "a beat's firing")


def made_revoked(made: Crew) -> list[str]:
    found = made.app.control.inspect(timeout=2).revoked() or {}
    return [each for ids in found.values() for each in ids]


def letters(made: Crew) -> dict[str, int]:
    """The number of dead letters of the queue, by their reasons."""
    found: dict[str, int] = {}
    for letter in dead_letters(made.app, "celery").scan():
        found[letter.reason] = found.get(letter.reason, 0) + 1
    return found


def is_drained(made: Crew, timeout: float) -> None:
    """Waits until nothing in the queue is unfinished."""
    deadline = time.monotonic() + timeout
    while left := made.backlog():
        assert time.monotonic() < deadline, f"{left} messages are unfinished:\n{made.workers[-1].output[-3000:]}"
        time.sleep(0.2)
