"""The control plane on a real broker: exactly one body per chord, whoever is killed, stopped or started meanwhile."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.message.envelope import CUT
from kafka_exec.kafka.log.history import Fetcher
from kafka_exec.kafka.nodes import share
from tests.integration.control_tools import (
    PARTITIONS,
    Bodies,
    Chord,
    Plane,
    PlaneProcess,
    in_each_partition,
    planes,
    send,
    until,
)

Make = Callable[..., Plane]

#: How soon new chords of every partition must complete when a runtime was killed, seconds: it takes four to five on a quiet
#: machine, which is printed; Kafka itself aborts the open transaction after ten at the earliest.
TAKEN_OVER = 8.0


@pytest.fixture
def make(kafka: EmbeddedKafka, prefix: str) -> Iterator[Make]:
    with planes(kafka.bootstrap_servers, prefix) as maker:
        yield maker


@pytest.fixture
def bodies(kafka: EmbeddedKafka, prefix: str, make: Make) -> Iterator[Bodies]:
    reader = Bodies(kafka.bootstrap_servers, f"{prefix}.bodies")
    yield reader
    reader.close()


@pytest.fixture
def launch(kafka: EmbeddedKafka, prefix: str) -> Iterator[Callable[..., PlaneProcess]]:
    started: list[PlaneProcess] = []

    def start(name: str, mode: str = "drive") -> PlaneProcess:
        started.append(PlaneProcess(kafka.bootstrap_servers, prefix, name, mode))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def test_one_body_per_chord_with_copies_in_any_order(make: Make, bodies: Bodies, prefix: str) -> None:
    plane = make("a")
    plane.wait_for()
    chords = [Chord(f"g{n}", n % 7 + 1) for n in range(200)]
    commands = [command for chord in chords for command in chord.commands * 2]
    random.Random(7).shuffle(commands)
    send(plane.cluster, prefix, commands)
    send(plane.cluster, prefix, commands[::3])
    bodies.wait_for(chord.group for chord in chords)
    bodies.wait_for_all_before(plane.cluster, prefix, "end")
    assert set(bodies.count.values()) == {1}
    assert bodies.of("g6")["parts"] == [f"g6-{n}" for n in range(7)]


def test_two_runtimes_share_and_a_stop_hands_over(make: Make, bodies: Bodies, prefix: str) -> None:
    one, other = make("a"), make("b")
    until(lambda: sorted([*one.runtime.driven, *other.runtime.driven]) == list(range(PARTITIONS)))
    first, second = [in_each_partition(stem) for stem in ("first", "second")]
    send(one.cluster, prefix, [c for group in first for c in Chord(group, 2).commands])
    send(one.cluster, prefix, [Chord(group, 2).parts[0] for group in second])
    bodies.wait_for(first)
    began = time.monotonic()
    one.stop()
    other.wait_for()
    print(f"handed over in {time.monotonic() - began:.2f} s")
    for group in second:
        chord = Chord(group, 2)
        send(one.cluster, prefix, [chord.parts[1], chord.size])
    bodies.wait_for(second)
    bodies.wait_for_all_before(one.cluster, prefix, "end")
    assert set(bodies.count.values()) == {1}


def test_a_kill_within_a_transaction_is_taken_over_in_seconds(
    make: Make, bodies: Bodies, prefix: str, launch: Callable[..., PlaneProcess]
) -> None:
    victim = launch("victim", "hang")
    victim.wait_for("driving")
    plane = make("a")
    until(lambda: 0 < len(plane.runtime.driven) < PARTITIONS, what="they share")
    held, fresh = in_each_partition("held"), in_each_partition("fresh")
    send(plane.cluster, prefix, [c for group in held for c in Chord(group, 2).commands])
    victim.wait_for("open")
    victim.kill()
    began = time.monotonic()
    send(plane.cluster, prefix, [c for group in fresh for c in Chord(group, 2).commands])
    bodies.wait_for([*fresh, *held])
    took = time.monotonic() - began
    print(f"taken over in {took:.2f} s")
    bodies.wait_for_all_before(plane.cluster, prefix, "end")
    assert set(bodies.count.values()) == {1}
    assert took <= TAKEN_OVER


def test_an_owner_that_stood_still_changes_nothing_when_it_goes_on(
    make: Make, bodies: Bodies, prefix: str, launch: Callable[..., PlaneProcess]
) -> None:
    sleeper = launch("sleeper", "stop")
    sleeper.wait_for("driving")
    plane = make("a")
    groups = in_each_partition("g")
    send(plane.cluster, prefix, [c for group in groups for c in Chord(group, 2).commands])
    sleeper.wait_until_stopped()
    bodies.wait_for(groups)
    plane.wait_for()
    sleeper.signal(signal.SIGCONT)
    until(lambda: len(plane.runtime.driven) < PARTITIONS, what="it is back and drives its share")
    more = in_each_partition("more")
    send(plane.cluster, prefix, [c for group in more for c in Chord(group, 2).commands])
    bodies.wait_for(more)
    bodies.wait_for_all_before(plane.cluster, prefix, "end")
    assert set(bodies.count.values()) == {1}


@pytest.mark.parametrize(
    "body",
    [
        {"padding": 2_000_000},
        {"padding": 20_000, "topic": "small"},
        {"topic": "deleted"},
        {"topic": "never.there"},
        {"raises": "no such body"},
    ],
    ids=["too large for the client", "too large for the topic", "topic deleted", "no topic", "no record"],
)
def test_a_body_that_cannot_be_sent_fails_only_its_own_chord(
    kafka: EmbeddedKafka, make: Make, bodies: Bodies, prefix: str, body: dict[str, object]
) -> None:
    plane = make("a")
    plane.wait_for()
    if "topic" in body:
        body = {**body, "topic": f"{prefix}.{body['topic']}"}
        if "never" not in str(body["topic"]):
            plane.cluster.topics.ensure(TopicSpec(str(body["topic"]), 1, {"max.message.bytes": "10000"}))
    if "deleted" in str(body.get("topic")):
        # The runtime's own producer has used the topic before.
        before = in_each_partition("before")[0]
        send(plane.cluster, prefix, Chord(before, 1, topic=body["topic"]).commands)
        reader = Bodies(plane.cluster.servers, str(body["topic"]))
        reader.wait_for([before])
        reader.close()
        admin = kafka.admin()
        for future in admin.delete_topics([body["topic"]]).values():
            future.result(10)
        # A broker that does not know it yet would take a body, and delete it with the topic.
        until(lambda: body["topic"] not in admin.list_topics(timeout=10).topics)
    bad = in_each_partition("bad")[0]
    # All in one partition, before and behind the bad one.
    good = [group for n in range(20) if (group := in_each_partition(f"good{n}")[0])]
    chords = [*(Chord(group, 2) for group in good[:10]), Chord(bad, 2, **body), *(Chord(g, 2) for g in good[10:])]
    send(plane.cluster, prefix, [command for chord in chords for command in chord.commands])
    took = bodies.wait_for([*good, bad])
    print(f"all others and the failure in {took:.2f} s")
    bodies.wait_for_all_before(plane.cluster, prefix, "end")
    assert set(bodies.count.values()) == {1}
    failure = bodies.of(bad)
    assert failure["reason"]
    assert failure["parts"] == [f"{bad}-0", f"{bad}-1"]


def test_what_is_no_command_is_passed_over_and_kept(make: Make, bodies: Bodies, prefix: str) -> None:
    plane = make("a")
    plane.wait_for()
    topic = plane.names.control
    # With what a letter says, the last one is larger than any record may be.
    for value in (b"\xff", b"{}", b'{"kind": "chord.part"}', b'{"kind": "other.thing"}', None, b"\xff" * 999_900):
        plane.cluster.publisher.send(topic, value, key="x")
    bodies.wait_for_all_before(plane.cluster, prefix, "end")
    consumer = Consumer({"bootstrap.servers": plane.cluster.servers, "group.id": "dead"})
    dead, number = plane.names.dead("control"), plane.cluster.topics.partitions(plane.names.dead("control")) or 0
    consumer.assign([TopicPartition(dead, n, 0) for n in range(number)])
    found: list[str] = []
    cut = 0
    while len(found) < 6:
        record = consumer.poll(10)
        assert record is not None
        if record.error() is None:
            found.append(dict(record.headers())["dead-reason"].decode())
            cut += CUT in dict(record.headers())
    consumer.close()
    assert sorted(found) == ["malformed", "no-kind", "no-kind", "not-json", "not-json", "unknown-command"]
    assert cut == 1


def test_chords_go_on_after_a_restart_of_the_broker(prefix: str) -> None:
    with EmbeddedKafka() as broker, planes(broker.bootstrap_servers, prefix) as make:
        plane = make("a")
        plane.wait_for()
        bodies = Bodies(broker.bootstrap_servers, f"{prefix}.bodies")
        groups = in_each_partition("g")
        send(plane.cluster, prefix, [Chord(group, 2).parts[0] for group in groups])
        bodies.wait_for_all_before(plane.cluster, prefix, "before")
        broker.kill()
        broker.start()
        began = time.monotonic()
        for group in groups:
            send(plane.cluster, prefix, [Chord(group, 2).size, Chord(group, 2).parts[1]])
        bodies.wait_for(groups)
        print(f"all go on {time.monotonic() - began:.2f} s after the broker's restart")
        bodies.wait_for_all_before(plane.cluster, prefix, "end")
        assert set(bodies.count.values()) == {1}
        bodies.close()


def test_the_state_is_restored_from_the_changelog_alone(make: Make, bodies: Bodies, prefix: str) -> None:
    plane = make("a")
    plane.wait_for()
    groups, done = in_each_partition("g"), in_each_partition("done")
    send(plane.cluster, prefix, [c for group in done for c in Chord(group, 1).commands])
    send(plane.cluster, prefix, [Chord(group, 2).parts[0] for group in groups])
    bodies.wait_for_all_before(plane.cluster, prefix, "before")
    plane.stop()
    plane.cluster.topics.purge([plane.names.control])
    again = make("b")
    again.wait_for()
    send(again.cluster, prefix, [c for group in done for c in Chord(group, 1).commands])
    send(again.cluster, prefix, [c for g in groups for c in (Chord(g, 2).size, Chord(g, 2).parts[1])])
    bodies.wait_for(groups)
    bodies.wait_for_all_before(again.cluster, prefix, "end")
    assert set(bodies.count.values()) == {1}
    assert bodies.of(groups[0])["parts"] == [f"{groups[0]}-0", f"{groups[0]}-1"]


def test_commands_that_are_done_are_deleted(
    make: Make, bodies: Bodies, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share, "_TRIM", 0.5)
    plane = make("a")
    plane.wait_for()
    send(plane.cluster, prefix, Chord("done", 30).commands)
    bodies.wait_for(["done"])
    topic = plane.names.control
    fetcher = Fetcher(plane.cluster, topic)
    spans = [fetcher.span(number) for number in range(PARTITIONS)]
    until(lambda: all(fetcher.span(number)[0] >= end for number, (_, end) in enumerate(spans)))
    fetcher.close(1.0)
    send(plane.cluster, prefix, Chord("after", 3).commands)
    bodies.wait_for(["after"])
    assert set(bodies.count.values()) == {1}


def test_what_is_never_complete_goes_in_a_quiet_log_too(make: Make, prefix: str) -> None:
    plane = make("a", unfinished=1.0)
    plane.wait_for()
    chord = Chord("g", 2)
    send(plane.cluster, prefix, chord.commands[:2])
    topic = plane.names.control_state
    consumer = Consumer({"bootstrap.servers": plane.cluster.servers, "group.id": "changelog"})
    consumer.assign([TopicPartition(topic, n, 0) for n in range(PARTITIONS)])
    items: dict[bytes, bytes | None] = {}
    # The group and its part.
    while len(items) < 2 or any(value is not None for value in items.values()):
        record = consumer.poll(20)
        assert record is not None, f"not forgotten: {items}"
        if record.error() is None and record.key().startswith(b"chord:"):
            items[record.key()] = record.value()
    consumer.close()


def test_a_chord_of_ten_thousand_parts(make: Make, bodies: Bodies, prefix: str) -> None:
    plane = make("a")
    plane.wait_for()
    chord = Chord("large", 10_000)
    began = time.monotonic()
    send(plane.cluster, prefix, chord.commands)
    sent = time.monotonic() - began
    bodies.wait_for(["large"])
    print(f"10,000 parts: sent in {sent:.2f} s, body after {time.monotonic() - began:.2f} s")
    assert len(bodies.of("large")["parts"]) == 10_000
    assert json.dumps(bodies.of("large")["parts"][:2]) == '["large-0", "large-1"]'
