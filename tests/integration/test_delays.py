"""Tasks with a time of their own: they wait in Kafka, run once and not early, whoever dies, and can be revoked meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import group
from kombu import Queue

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.results.lifecycle import State
from kafka_exec.kafka.log.history import Fetcher
from kafka_exec.kafka.nodes import share
from tests.integration.delay_tools import MoverProcess, Reader, moving
from tests.integration.workers import PATIENCE, Crew, Worker, crew, until

#: What a task may be late on a busy machine, seconds. How late it is on an idle one is printed.
LATE = 5.0

#: Times of effects are rounded, seconds.
ROUNDED = 0.001

HOUR = 3600.0


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path) as found:
        yield found


def at(when: float) -> datetime:
    return datetime.fromtimestamp(when, timezone.utc)


def start(made: Crew, name: str, **conf: Any) -> Worker:
    worker = made.start(name, "-c", "2", "-P", "threads", **conf)
    made.ready(worker)
    return worker


def scheduled(made: Crew) -> list[dict[str, Any]]:
    """The answer of the only worker about tasks that wait for their time."""
    [answer] = made.app.control.inspect(timeout=5, limit=1).scheduled().values()
    return list(answer)


def none_is_held(made: Crew) -> bool:
    """True if the only worker holds no task that is not due: for each, Celery would raise its prefetch count by one."""
    inspect = made.app.control.inspect(timeout=5, limit=1)
    [stats], [reserved] = inspect.stats().values(), inspect.reserved().values()
    return not reserved and stats["prefetch_count"] == 4 * stats["pool"]["max-concurrency"]


@pytest.mark.timed
def test_a_countdown_ends_on_time(made: Crew) -> None:
    start(made, "one")
    (overdue,) = made.send("work", eta=at(time.time() - HOUR))
    made.effects.wait_for([overdue])
    # Now and then one, and then a thousand in a second.
    now, due = time.time(), {}
    for seconds in [*(0.5 + n * 0.03 for n in range(100)), *(5 + n / 1000 for n in range(1000))]:
        (task_id,) = made.send("work", eta=at(now + seconds))
        due[task_id] = now + seconds
    made.effects.wait_for(due)
    begun = {effect.task: effect.time for effect in made.effects.all("begin")}
    late = sorted(begun[task_id] - when for task_id, when in due.items())
    print(
        f"\n{len(late)} tasks late by {late[len(late) // 2] * 1000:.1f} ms (p50), "
        f"{late[-len(late) // 100] * 1000:.1f} (p99), {late[-1] * 1000:.1f} at most"
    )
    assert late[0] >= -ROUNDED
    assert late[-1] < LATE
    made.effects.assert_once(due)


def test_the_earliest_goes_first(made: Crew) -> None:
    worker = made.start("one", "-c", "1", "-P", "threads")
    made.ready(worker)
    first = time.time() + 3
    numbers = random.Random(7).sample(range(20), 20)
    ids = {number: made.send("work", eta=at(first + number / 10))[0] for number in numbers}
    made.effects.wait_for(ids.values())
    order = [effect.task for effect in sorted(made.effects.all("begin"), key=lambda effect: effect.time)]
    assert order == [ids[number] for number in range(20)]


def test_no_worker_holds_what_is_due_in_an_hour(made: Crew) -> None:
    start(made, "one")
    due = time.time() + HOUR
    ids = made.send("work", number=5000, eta=at(due))
    made.effects.wait_for(made.send("work", countdown=3))  # behind them: they have all been looked at
    until(lambda: none_is_held(made), what="an empty timer")
    told = scheduled(made)
    assert len(told) == 100  # the first
    assert {each["request"]["id"] for each in told} <= set(ids)
    assert {each["request"]["name"] for each in told} == {"work"}
    assert {each["eta"] for each in told} == {at(due).isoformat()}
    assert made.backlog() <= 16 * 2  # the ends of transactions count as messages until they are read


def test_a_task_is_released_without_the_worker_that_was_there_when_it_was_sent(made: Crew) -> None:
    first = start(made, "first")
    ids = made.send("work", number=20, countdown=7)
    made.effects.wait_for(made.send("work"))
    first.kill()
    start(made, "second")
    made.effects.wait_for(ids)
    made.effects.assert_once(ids, "begin")
    assert {effect.worker for effect in made.effects.all() if effect.task in ids} == {"second"}


def test_what_was_due_without_any_worker_runs_when_one_starts(made: Crew) -> None:
    overdue = made.send("work", number=50, countdown=2.5)
    due = time.time() + 2.5
    later = made.send("work", number=50, eta=at(due + 8))
    until(lambda: time.time() > due)
    start(made, "late")
    made.effects.wait_for([*overdue, *later])
    made.effects.assert_once([*overdue, *later], "begin")
    assert min(effect.time for effect in made.effects.all("begin") if effect.task in later) >= due + 8 - ROUNDED


def test_a_retry_waits_in_kafka(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, "same") as found:
        start(found, "one")
        flaky = found.app.tasks["flaky"]
        waiting = flaky.delay(1, HOUR)
        until(lambda: waiting.state == "RETRY")
        # The message is in Kafka before the state says so, and may be read by the thread of delays a moment after it.
        [told] = until(lambda: scheduled(found))
        assert (told["request"]["id"], told["request"]["args"]) == (waiting.id, [1, HOUR])
        until(lambda: none_is_held(found), what="an empty timer")
        begun = time.monotonic()
        assert flaky.delay(1, 4).get(timeout=PATIENCE) == 1
        assert time.monotonic() - begun > 4


def test_several_in_one_scope_are_confirmed_and_run(made: Crew) -> None:
    start(made, "one")
    work = made.app.tasks["work"]
    sent = group(work.s().set(countdown=2 + n / 10) for n in range(10)).apply_async()
    ids = [result.id for result in sent.results]
    made.effects.wait_for(ids)
    made.effects.assert_once(ids)


@pytest.fixture
def victim(kafka: EmbeddedKafka, made: Crew) -> Iterator[MoverProcess]:
    process = MoverProcess(kafka.bootstrap_servers, made.prefix)
    yield process
    process.kill()


def test_who_is_killed_in_the_middle_of_a_move_neither_loses_nor_doubles(made: Crew, victim: MoverProcess) -> None:
    victim.wait_for("driving")
    due = time.time() + 4
    ids = made.send("work", number=3000, eta=at(due))
    victim.wait_for("open")
    victim.kill()
    begun = time.monotonic()
    start(made, "one")
    made.effects.wait_for(ids)
    print(f"\n3,000 tasks run {time.monotonic() - begun:.1f} s after the kill")
    until(lambda: made.backlog() == 0, what="all committed")
    made.effects.assert_once(ids, "begin")
    assert min(effect.time for effect in made.effects.all("begin")) >= due - ROUNDED


def test_two_workers_share_the_moving_and_one_is_killed(made: Crew) -> None:
    start(made, "one")
    other = made.start("other", "-c", "1", "-P", "threads", "-Q", "elsewhere")
    made.ready(other, queue=None)
    due = time.time() + 9
    ids = made.send("work", number=2000, eta=at(due))
    until(lambda: time.time() > due - 4)
    other.kill()  # it runs none of these tasks, and moves its share of the levels that they pass through
    made.effects.wait_for(ids)
    until(lambda: made.backlog() == 0, what="all committed")
    made.effects.assert_once(ids, "begin")
    assert min(effect.time for effect in made.effects.all("begin")) >= due - ROUNDED


def test_many_that_are_due_at_once_are_released_quickly(made: Crew, kafka: EmbeddedKafka) -> None:
    number = 5_000
    made.send("work", number=number, countdown=4)
    due = time.time() + 4
    until(lambda: time.time() > due)
    with moving(kafka.bootstrap_servers, made.prefix) as mover:
        reader = Reader(kafka.bootstrap_servers, mover.cluster, Topics(made.prefix).queue("celery"))
        times = [record.time for record in reader.wait_for(number)]
        reader.close()
    assert len({record.key for record in reader.found}) == number
    print(f"\n{number} released within {max(times) - min(times):.1f} s: {number / (max(times) - min(times)):.0f} /s")


@pytest.mark.parametrize("priority", [None, 9])
def test_a_released_message_is_the_one_that_was_sent(made: Crew, kafka: EmbeddedKafka, priority: int | None) -> None:
    made.app.conf.task_queues = [Queue("urgent", queue_arguments={"x-max-priority": 9})]
    eta = at(time.time() + 2.5)
    options: dict[str, Any] = {"queue": "urgent", "priority": priority, "task_id": "the-same"}
    for more in ({}, {"eta": eta}):
        made.app.tasks["work"].apply_async((0.5,), **options, **more)
    topic = Topics(made.prefix).queue("urgent", 0 if priority is None else 3)
    with moving(kafka.bootstrap_servers, made.prefix) as mover:
        reader = Reader(kafka.bootstrap_servers, mover.cluster, topic)
        direct, delayed = reader.wait_for(2)
        reader.close()
    assert (delayed.key, delayed.value, delayed.partition) == (direct.key, direct.value, direct.partition)
    assert list(delayed.headers) == list(direct.headers)
    assert delayed.headers["content-type"] == direct.headers["content-type"]
    assert eta.isoformat().encode() in delayed.headers["headers"]


def test_what_cannot_be_released_becomes_a_dead_letter_and_harms_no_other(made: Crew, kafka: EmbeddedKafka) -> None:
    names = Topics(made.prefix)
    work = made.app.tasks["work"]
    with moving(kafka.bootstrap_servers, made.prefix) as mover:
        mover.cluster.topics.ensure(TopicSpec(names.queue("small"), 1, {"max.message.bytes": "2000"}))
        until(lambda: mover.delays.driven)
        mover.cluster.publisher.send(names.delay, b"what is this", partition=0)
        for number in range(20):
            padding = "x" * 5000 if number == 10 else "x"
            work.apply_async((padding,), queue="small", countdown=4, task_id=f"small-{number}")
        released, refused, foreign = (
            Reader(kafka.bootstrap_servers, mover.cluster, topic)
            for topic in (names.queue("small"), names.dead("small"), names.dead("delay"))
        )
        keys = {record.key for record in released.wait_for(19)}
        (too_large,), (unknown,) = refused.wait_for(1), foreign.wait_for(1)
        for reader in (released, refused, foreign):
            reader.close()
    assert keys == {f"small-{number}".encode() for number in range(20) if number != 10}
    assert (too_large.key, too_large.headers["dead-reason"]) == (b"small-10", b"undeliverable")
    assert (unknown.value, unknown.headers["dead-reason"]) == (b"what is this", b"no-delay")
    assert too_large.headers["dead-topic"] == names.queue("small").encode()
    assert "delay-queue" not in too_large.headers
    assert unknown.headers["dead-topic"] == names.delay.encode()


def test_what_was_moved_is_deleted(made: Crew, kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "_TRIM", 0.5)
    made.send("work", number=20, countdown=4.5)
    topic = Topics(made.prefix).delay
    with moving(kafka.bootstrap_servers, made.prefix) as mover:
        fetcher = Fetcher(mover.cluster, topic)
        until(lambda: fetcher.span(0)[0] >= 20)
        made.send("work", number=5, countdown=4.5)
        until(lambda: fetcher.span(0)[0] >= 25)
        fetcher.close(1.0)


def test_a_queue_that_was_deleted_meanwhile_is_made_again(made: Crew, kafka: EmbeddedKafka) -> None:
    work = made.app.tasks["work"]
    work.apply_async(queue="passing", countdown=HOUR)  # makes the topics, which may take longer than a countdown
    work.apply_async(queue="passing", countdown=5, task_id="patient")
    with made.app.connection_for_write() as connection:
        connection.default_channel.queue_delete("passing")
    with moving(kafka.bootstrap_servers, made.prefix) as mover:
        reader = Reader(kafka.bootstrap_servers, mover.cluster, Topics(made.prefix).queue("passing"))
        assert [record.key for record in reader.wait_for(1)] == [b"patient"]
        reader.close()


def revoke(made: Crew, *ids: str) -> None:
    assert len(made.app.control.revoke(list(ids), reply=True, timeout=PATIENCE, limit=1)) == 1


def test_a_revoked_task_that_waits_never_runs(made: Crew) -> None:
    worker = start(made, "one")
    victim, *others = made.send("work", number=3, countdown=5)
    revoke(made, victim)
    made.effects.wait_for(others)
    worker.wait_for_line(f"Discarding revoked task: work[{victim}]")
    assert victim not in made.effects.count("begin")


def test_a_revoked_task_that_waits_is_known_after_a_restart_of_all_workers(made: Crew) -> None:
    first = start(made, "first")
    victim, *others = made.send("work", number=3, countdown=12)
    revoke(made, victim)
    first.kill()
    second = start(made, "second")
    made.effects.wait_for(others)
    second.wait_for_line(f"Discarding revoked task: work[{victim}]")
    assert victim not in made.effects.count("begin")


def test_a_task_that_is_to_begin_later_is_scheduled_when_it_is_sent(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, backend="same") as made:
        due = time.time() + HOUR
        [later] = made.send("work", eta=at(due), ordering_key="k")
        told = made.app.backend.history(later)
        assert told is not None
        assert (told.state, told.name, told.due, told.ordering_key) == (
            State.SCHEDULED,
            "work",
            pytest.approx(due),
            "k",
        )
        assert (told.previous, told.attempts) == (None, None)
        assert made.app.AsyncResult(later).state == "PENDING"
        soon, unasked, timeless = [
            made.send("work", **options)[0]
            for options in ({"countdown": 3}, {"countdown": HOUR, "ignore_result": True}, {})
        ]
        assert [made.app.backend.history(each) for each in (unasked, timeless)] == [None, None]
        start(made, "w")
        assert made.app.AsyncResult(soon).get(timeout=PATIENCE) is None
        assert [each.state for each in map(made.app.backend.history, (soon, later)) if each] == [
            State.DONE,
            State.SCHEDULED,
        ]
