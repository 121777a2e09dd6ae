"""Chords as a client sees them: the body runs once, on what all parts have returned, or fails with the reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError
from celery.result import AsyncResult
from confluent_kafka import Consumer, Producer, TopicPartition

from kafka_exec.broker import EmbeddedKafka
from tests.integration.chord_tools import bodies, chords_under_kills, settled
from tests.integration.control_tools import PARTITIONS
from tests.integration.workers import PATIENCE, Crew, crew, until


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """One worker with four children for all tests that harm nobody."""
    with crew(kafka, tmp_path_factory.mktemp("chords"), backend="same") as found:
        found.ready(found.start("shared", "-c", "4"))
        yield found


@pytest.fixture
def own(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    """Topics of the test's own, and no worker yet."""
    with crew(kafka, tmp_path, backend="same") as found:
        yield found


def parts(made: Crew, numbers: Any, **options: Any) -> list[Any]:
    return [made.app.tasks["part"].s(number, **options) for number in numbers]


def close(made: Crew, key: str = "") -> Any:
    return made.app.tasks["close"].s(**({"key": key} if key else {}))


def got(result: AsyncResult) -> Any:
    return result.get(timeout=PATIENCE)


def assert_failed(made: Crew, result: AsyncResult, reason: str) -> None:
    """The body has failed by itself; a chord's own result would raise what its part has raised."""
    with pytest.raises(ChordError, match=reason):
        got(made.app.AsyncResult(result.id))


def test_the_body_gets_what_the_parts_have_returned_in_their_order(made: Crew) -> None:
    assert got(chord(parts(made, range(50)), close(made)).delay()) == list(range(50))
    assert got(chord(parts(made, range(50)), made.app.tasks["total"].s()).delay()) == sum(range(50))


@pytest.mark.parametrize("number", [0, 1])
def test_a_header_of_no_or_one_part(made: Crew, number: int) -> None:
    result = chord(group(parts(made, range(number)), app=made.app), close(made), app=made.app).delay()
    assert got(result) == list(range(number))


def test_the_members_of_a_group_in_the_header_are_parts(made: Crew) -> None:
    """Celery itself makes one list of them, in an order of its own."""
    header = [*parts(made, [1]), group(parts(made, [2, 3])), *parts(made, [4])]
    assert sorted(got(chord(header, close(made)).delay())) == [1, 2, 3, 4]


def test_a_group_at_the_end_of_a_chain_in_the_header_stays_a_list(made: Crew) -> None:
    add = made.app.tasks["add"]
    forked = chain(add.s(1, 1), group(add.s(10), add.s(20)))
    assert got(chord([*parts(made, [1]), forked, *parts(made, [4])], close(made)).delay()) == [1, [12, 22], 4]


def test_a_chord_in_the_header_is_one_part(made: Crew) -> None:
    inner = chord(parts(made, [2, 3]), made.app.tasks["total"].s())
    deeper = chord([*parts(made, [10]), chord(parts(made, [20, 30]), close(made))], close(made))
    assert got(chord([*parts(made, [1]), inner, deeper], close(made)).delay()) == [1, 5, [10, [20, 30]]]


def test_a_chain_in_the_header_is_one_part(made: Crew) -> None:
    add = made.app.tasks["add"]
    assert got(chord([chain(add.s(1, 1), add.s(5)), *parts(made, [3])], close(made)).delay()) == [7, 3]


def test_a_body_that_is_a_group(made: Crew) -> None:
    body = group(made.app.tasks["total"].s(), made.app.tasks["double"].s())
    assert got(chord(parts(made, [1, 2]), body).delay()) == [3, [2, 4]]


def test_a_body_that_is_a_chain(made: Crew) -> None:
    body = chain(made.app.tasks["double"].s(), made.app.tasks["total"].s())
    assert got(chord(parts(made, [1, 2]), body).delay()) == 6


def test_a_chord_in_the_middle_of_a_chain(made: Crew) -> None:
    add = made.app.tasks["add"]
    steps = chain(add.s(1, 1), group(add.s(10), add.s(20)), made.app.tasks["total"].s(), add.s(100))
    assert got(steps.delay()) == 134


def test_a_failed_part_fails_the_body_and_calls_its_errback_once(made: Crew) -> None:
    body = close(made, "never").on_error(made.app.tasks["on_error"].s(key="failed-chord"))
    result = chord([*parts(made, [1, 2]), made.app.tasks["refuse"].s("reason")], body).delay()
    assert_failed(made, result, "reason")
    made.effects.wait_for(["failed-chord"], "error")
    settled(made, "errback")
    made.effects.assert_once(["failed-chord"], "error")
    assert bodies(made)["never"] == 0


def test_copies_of_all_commands_fire_nothing_again(own: Crew) -> None:
    own.ready(own.start("one", "-c", "2"))
    results = [chord(parts(own, range(3)), close(own, f"copied-{n}")).delay() for n in range(10)]
    assert [got(result) for result in results] == [[0, 1, 2]] * 10
    consumer = Consumer({**own.kafka.client_config(), "group.id": "copies"})
    topic, commands = f"{own.prefix}.control", []
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    while len(commands) < 10 * 4:
        commands += [record for record in consumer.consume(100, 0.2) if b'"chord.' in record.value()]
    consumer.close()
    producer = Producer(own.kafka.client_config())
    for record in commands * 2:
        producer.produce(topic, record.value(), record.key(), record.partition())
    assert producer.flush(PATIENCE) == 0
    settled(own, "copies")
    assert bodies(own) == {f"copied-{n}": 1 for n in range(10)}


def test_a_chord_that_is_over_leaves_nothing_in_the_queue(own: Crew) -> None:
    own.ready(own.start("one", "-c", "2"))
    assert got(chord(parts(own, [1, 2]), own.app.tasks["total"].s()).delay()) == 3
    until(lambda: own.backlog() == 0, 10)


def test_two_thousand_parts(made: Crew) -> None:
    began = time.monotonic()
    result = chord(parts(made, range(2000)), made.app.tasks["total"].s()).delay()
    sent = time.monotonic() - began
    assert result.get(timeout=120) == sum(range(2000))
    print(f"2,000 parts: sent in {sent:.1f} s, done after {time.monotonic() - began:.1f} s", end=" ")


# Faults


def test_a_worker_killed_between_two_parts(own: Crew) -> None:
    gate = own.gate()
    victim = own.start("victim", "-c", "4")
    own.ready(victim)
    header = [*parts(own, range(10)), *parts(own, [10, 11], gate=str(gate))]
    result = chord(header, close(own, "killed")).delay()
    until(lambda: sum(part.ready() for part in result.parent.results) == 10)
    victim.kill()
    gate.touch()
    own.start("heir", "-c", "4")
    assert got(result) == list(range(12))
    settled(own, "killed")
    assert bodies(own)["killed"] == 1


def test_the_control_plane_goes_on_when_a_worker_starts_later(own: Crew) -> None:
    plain = own.start("without", "-c", "2", kafka_exec_control_plane=False)
    own.ready(plain)
    result = chord(parts(own, range(5)), close(own, "later")).delay()
    assert result.parent.get(timeout=PATIENCE) == list(range(5))
    plain.stop()
    assert result.state == "PENDING"
    own.start("with", "-c", "2")
    assert got(result) == list(range(5))
    assert bodies(own)["later"] == 1


def test_an_oversized_body_fails_its_own_chord(made: Crew) -> None:
    large = made.app.tasks["large"]
    bad = chord([large.s(400_000) for _ in range(5)], close(made, "oversized")).delay()
    others = [chord(parts(made, range(3)), close(made)).delay() for _ in range(20)]
    assert_failed(made, bad, "too large")
    assert [got(result) for result in others] == [[0, 1, 2]] * 20
    assert bodies(made)["oversized"] == 0


def test_an_oversized_part_fails_its_own_chord(made: Crew) -> None:
    bad = chord([*parts(made, [1]), made.app.tasks["large"].s(5_000_000)], close(made, "large part")).delay()
    others = [chord(parts(made, range(3)), close(made)).delay() for _ in range(20)]
    assert_failed(made, bad, "too large")
    assert [got(result) for result in others] == [[0, 1, 2]] * 20


def test_a_body_for_a_queue_that_nobody_knows_fails_its_own_chord(own: Crew) -> None:
    own.ready(own.start("one", "-c", "2", task_create_missing_queues=False))
    bad = chord(parts(own, range(3)), close(own).set(queue="nobody")).delay()
    others = [chord(parts(own, range(3)), close(own)).delay() for _ in range(20)]
    assert [got(result) for result in others] == [[0, 1, 2]] * 20
    assert_failed(own, bad, "nobody")


def test_a_deleted_topic_of_a_body_fails_its_own_chord(own: Crew) -> None:
    own.ready(own.start("one", "-c", "2"))
    queue, topic, gate = "doomed", f"{own.prefix}.queue.doomed", own.gate()
    own.send("work", queue=queue)
    chord(parts(own, range(3)), close(own).set(queue=queue)).delay()
    until(lambda: own.backlog(queue) > 1, what="the control plane has used the topic")
    bad = chord(parts(own, range(3), gate=str(gate)), close(own).set(queue=queue)).delay()
    admin = own.kafka.admin()
    admin.delete_topics([topic])[topic].result(PATIENCE)
    # The controller has deleted it. What a broker takes before it knows that is deleted with it, a chord's body too.
    until(lambda: topic not in admin.list_topics(timeout=10).topics, what="no broker knows the topic")
    gate.touch()
    others = [chord(parts(own, range(3)), close(own)).delay() for _ in range(20)]
    assert [got(result) for result in others] == [[0, 1, 2]] * 20
    assert_failed(own, bad, "doomed")


def test_each_body_comes_once_while_workers_are_killed(own: Crew) -> None:
    chords_under_kills(own, chords=30, size=20, kills=2)
