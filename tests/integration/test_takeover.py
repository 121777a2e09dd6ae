"""A new owner of partitions begins tasks that no worker runs, and no others; a task that kills its workers is given up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions, OffsetSpec

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.message import envelope
from kafka_exec.errors import TooManyDeliveries
from tests.integration.records import read
from tests.integration.workers import PATIENCE, Crew, Worker, crew, until

#: Short, so that a dead worker's partitions are soon another's.
SESSION = 3


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", kafka_exec_session_timeout=SESSION) as found:
        yield found


def hold(made: Crew, worker: Worker, number: int) -> tuple[Path, list[str]]:
    """Has a worker begin tasks that run until a gate opens; the gate and the tasks."""
    gate = made.gate()
    ids = made.send("hold", str(gate), number=number)
    made.effects.wait_for(ids, "begin")
    assert {effect.worker for effect in made.effects.all("begin") if effect.task in ids} == {worker.name}
    return gate, ids


def test_what_runs_is_not_begun_again_when_partitions_move(made: Crew) -> None:
    one = made.start("one", "-c", "4")
    made.ready(one)
    gate, held = hold(made, one, 4)
    waiting = made.send("work", number=200)
    two, three = made.start("two", "-c", "2"), made.start("three", "-c", "2")
    made.ready(two, three)
    # The new owners begin at once what waits in their partitions, and leave what runs.
    until(lambda: len(made.effects.count()) > 60, what="the tasks of the partitions that moved")
    assert {effect.worker for effect in made.effects.all()} == {"two", "three"}
    two.stop()
    made.shared_out("celery", 2)
    gate.touch()
    made.effects.wait_for([*held, *waiting])
    three.stop()
    made.shared_out("celery", 1)
    after = made.send("work", number=20)
    made.effects.wait_for(after)
    made.effects.assert_once([*held, *waiting, *after], "begin")
    until(lambda: made.backlog() == 0, what="a commit of all")


def test_who_is_told_to_end_leaves_what_it_has_not_begun_to_others_and_ends_what_it_runs(made: Crew) -> None:
    leaving = made.start("leaving", "-c", "2", kafka_exec_work_sharing=False)
    made.ready(leaving)
    gate, held = hold(made, leaving, 2)
    waiting = made.send("work", number=60)
    keyed = [made.send("work", ordering_key="k")[0] for _ in range(10)]
    staying = made.start("staying", "-c", "2")
    made.ready(staying)
    leaving.terminate()
    told = time.time()
    made.effects.wait_for([*waiting, *keyed])  # while the tasks that it runs still do
    begun = max(effect.time for effect in made.effects.all("begin"))
    print(f"all that waited began elsewhere within {begun - told:.1f} s")
    assert not made.effects.count().keys() & set(held)
    assert {effect.worker for effect in made.effects.all() if effect.task in {*waiting, *keyed}} == {"staying"}
    gate.touch()
    assert leaving.wait() == 0, leaving.output[-5000:]
    made.effects.wait_for(held)
    made.effects.assert_once([*held, *waiting, *keyed], "begin")
    ends = sorted((effect for effect in made.effects.all() if effect.task in keyed), key=lambda effect: effect.time)
    assert [effect.task for effect in ends] == keyed
    until(lambda: made.backlog() == 0, what="a commit of all")
    # Nothing was sent anew: it was only left where it is.
    everything = [*held, *waiting, *keyed]
    assert len(read(made.kafka, f"{made.prefix}.queue.celery", len(everything))) == len(everything)


def test_who_is_told_to_end_while_its_pool_takes_a_task_ends_that_task_and_then_itself(made: Crew) -> None:
    leaving = made.start("leaving", "-c", "1")
    made.ready(leaving)
    _, child = leaving.processes()
    child.suspend()
    taken = made.send("work")
    leaving.wait_for_line(f"{taken[0]}] received")
    for _ in range(2):  # turns of its loop: by then the task is in the pipe to the child, which has not answered
        until(lambda: made.app.control.ping(timeout=1))
    leaving.terminate()
    leaving.wait_for_line("the pool takes the last tasks")
    child.resume()
    # Otherwise the child would wait half a minute for somebody to read the end of its task.
    assert leaving.wait(25) == 0, leaving.output[-5000:]
    staying = made.start("staying", "-c", "1")
    made.ready(staying)
    after = made.send("work", number=10)
    made.effects.wait_for([*taken, *after])
    made.effects.assert_once([*taken, *after], "begin")
    until(lambda: made.backlog() == 0, what="a commit of all")


def test_a_busy_worker_that_is_told_to_end_runs_nothing_that_is_begun_again(made: Crew) -> None:
    leaving = made.start("leaving", "-c", "4")
    made.ready(leaving)
    sent = made.send("work", number=1000, ignore_result=True)
    until(lambda: len(made.effects.all()) > 200, what="a part of the tasks")
    leaving.terminate()
    assert leaving.wait(25) == 0, leaving.output[-5000:]
    staying = made.start("staying", "-c", "4")
    made.ready(staying)
    made.effects.wait_for(sent)
    made.effects.assert_once(sent, "begin")


def test_a_task_that_does_not_heed_a_cold_shutdown_is_killed_and_begins_again_elsewhere(made: Crew) -> None:
    leaving = made.start("leaving", "-c", "1", worker_soft_shutdown_timeout=0.5)
    made.ready(leaving)
    gate, held = hold(made, leaving, 1)
    staying = made.start("staying", "-c", "1")
    made.ready(staying)
    leaving.process.send_signal(signal.SIGQUIT)
    until(lambda: made.effects.count("begin")[held[0]] == 2, what="the start elsewhere")
    gate.touch()
    made.effects.wait_for(held)
    leaving.wait()
    made.effects.assert_once(held)
    assert [effect.worker for effect in made.effects.all() if effect.task in held] == ["staying"]
    until(lambda: made.backlog() == 0, what="a commit of all")


def test_a_run_that_outlasts_every_interval_moves_no_partition(made: Crew) -> None:
    """Its worker's only thread of Celery's is busy all the time."""
    shortest = dict.fromkeys(("max.poll.interval.ms", "session.timeout.ms"), SESSION * 1000)
    options = {"kafka": shortest}
    busy = made.start("busy", "-P", "solo", broker_transport_options=options)
    made.ready(busy)
    gate, held = hold(made, busy, 1)
    made.ready(made.start("other", "-P", "solo", broker_transport_options=options))
    admin, group = made.kafka.admin(), f"{made.prefix}.queue.celery"

    def members() -> dict[str, int]:
        found = admin.describe_consumer_groups([group])[group].result(PATIENCE)
        return {member.member_id: len(member.assignment.topic_partitions) for member in found.members}

    before, began = members(), time.monotonic()
    until(lambda: time.monotonic() - began > 2.5 * SESSION)
    assert members() == before
    gate.touch()
    made.effects.wait_for(held)
    after = made.send("work", number=20)
    made.effects.wait_for(after)
    made.effects.assert_once([*held, *after], "begin")
    assert members() == before


def test_a_dead_workers_running_tasks_begin_again_and_its_finished_ones_do_not(made: Crew) -> None:
    victim = made.start("victim", "-c", "2")
    made.ready(victim)
    gate, held = hold(made, victim, 1)
    finished = made.send("work", number=200)
    made.effects.wait_for(finished)
    heir = made.start("heir", "-c", "2")
    made.ready(heir)
    victim.kill()
    made.effects.wait_for(held, "begin")
    until(lambda: made.effects.count("begin")[held[0]] == 2, what="the second start")
    gate.touch()
    made.effects.wait_for(held)
    after = made.send("work", number=50)
    made.effects.wait_for(after)
    made.effects.assert_once([*finished, *after], "begin")


def test_a_retry_of_a_lost_run_and_of_its_repetition_is_one(made: Crew) -> None:
    """Lost runs have sent their tasks anew. Repeated they do so again, and one of two runs; or they end, and none does."""
    sent = made.gate()
    sent.mkdir()
    send = made.app.tasks["torn"].apply_async
    kinds: list[dict[str, str]] = [{}, {"ordering_key": "k"}, {"deduplication_id": "d"}]
    retried = [send((str(sent), 6, True), **options).id for options in kinds]
    ended = [
        send((str(sent), 6, False), **{name: value * 2 for name, value in options.items()}).id for options in kinds
    ]
    victim = made.start("victim", "-c", "6")
    assert victim.wait() == -signal.SIGKILL
    heir = made.start("heir", "-c", "4")
    made.ready(heir, queue=None)
    made.effects.wait_for([*retried, *ended])
    after = made.send("work", number=50)
    made.effects.wait_for(after)
    until(lambda: made.backlog() == 0, what="a commit of all")
    counts = {
        task: [made.effects.count(what)[task] for what in ("begin", "retry-end", "end")] for task in retried + ended
    }
    assert counts == {task: [3, 1, 1] if task in retried else [2, 0, 1] for task in counts}


def test_a_worker_that_comes_back_begins_again_what_it_was_running(made: Crew) -> None:
    first = made.start("same", "-c", "2")
    made.ready(first)
    gate, held = hold(made, first, 2)
    finished = made.send("work", number=0)
    first.kill()
    again = made.start("same", "-c", "2")
    made.ready(again)
    began = time.time()
    until(lambda: all(made.effects.count("begin")[each] == 2 for each in held), what="the second starts")
    print(f"begun again {time.time() - began:.1f} s after the restart")
    gate.touch()
    made.effects.wait_for([*held, *finished])


def test_a_worker_that_was_paused_begins_nothing_that_is_anothers(made: Crew) -> None:
    paused = made.start("paused", "-c", "1")
    made.ready(paused)
    gate, held = hold(made, paused, 1)
    waiting = made.send("work", number=60)
    os.killpg(paused.process.pid, signal.SIGSTOP)
    other = made.start("other", "-c", "2")  # one slot for what was held, which may come first
    other.wait_for_line(" ready.")
    made.effects.wait_for(waiting)
    until(lambda: made.effects.count("begin")[held[0]] == 2, what="the start elsewhere of what the paused worker ran")
    os.killpg(paused.process.pid, signal.SIGCONT)
    gate.touch()
    made.shared_out("celery", 2)
    after = made.send("work", number=60)
    made.effects.wait_for(after)
    made.effects.assert_once([*waiting, *after], "begin")


def test_what_ended_long_ago_is_deleted_from_queue_and_journal(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    partitions = {"queue": 1}
    conf = {"kafka_exec_partitions": partitions, "kafka_exec_audit_retention": 0.5}
    with crew(kafka, tmp_path, **conf) as made:
        worker = made.start("worker", "-c", "2")
        made.ready(worker)
        # Enough for a checkpoint.
        tasks = made.send("work", number=1200)
        made.effects.wait_for(tasks)
        admin = kafka.admin()

        def kept(topic: str) -> int:
            partition = TopicPartition(topic, 0)
            first, last = (
                admin.list_offsets({partition: spec})[partition].result(PATIENCE).offset
                for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
            )
            return int(last - first)

        until(lambda: kept(f"{made.prefix}.queue.celery") == 0, what="an empty queue")
        until(lambda: kept(f"{made.prefix}.journal.celery") < 1000, what="a journal that begins at its checkpoint")
        worker.kill()
        again = made.start("worker", "-c", "2")
        made.ready(again)
        after = made.send("work", number=10)
        made.effects.wait_for(after)
        made.effects.assert_once([*tasks, *after], "begin")


def test_a_task_that_kills_its_process_is_given_up(made: Crew) -> None:
    worker = made.start("worker", "-c", "2", kafka_exec_max_deliveries=3)
    made.ready(worker)
    poison = made.app.tasks["crash"].delay()
    neighbours = made.send("work", 0.2, number=10)
    with pytest.raises(TooManyDeliveries, match="begun 3 times"):
        poison.get(timeout=PATIENCE)
    made.effects.wait_for(neighbours)
    made.effects.assert_once(neighbours, "begin")
    assert made.effects.count("begin")[poison.id] == 3
    dead = read(made.kafka, f"{made.prefix}.dead.celery", 1)
    assert [dict(record.headers())["dead-reason"] for record in dead] == [b"max-deliveries"]
    until(lambda: made.backlog() == 0, what="a commit of all")


def test_partitions_that_are_added_to_a_queue_are_consumed_like_the_others(made: Crew) -> None:
    one = made.start("one", "-c", "2")
    made.ready(one)
    made.effects.wait_for(made.send("work", number=20))
    topic, admin = f"{made.prefix}.queue.celery", made.kafka.admin()
    admin.create_partitions([NewPartitions(topic, 24)])[topic].result(10)
    producer = Producer(made.kafka.client_config())  # the app's learns of them in some minutes
    # A broker learns of them some milliseconds later; until then a message for them is refused.
    until(lambda: len(producer.list_topics(topic, 10).topics[topic].partitions) == 24, what="the new partitions")
    refused: list[KafkaError] = []
    added = [f"added-{number}" for number in range(16, 24)]
    for number, task in enumerate(added, start=16):
        headers = {"task": "work", "id": task, "lang": "py", "root_id": task}
        body = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
        message = envelope.Message(body, "application/json", "utf-8", headers, {"correlation_id": task})
        producer.produce(
            topic,
            body,
            task,
            number,
            headers=envelope.encode(message),
            on_delivery=lambda error, _: refused.extend([error] if error else []),
        )
    assert (producer.flush(10), refused) == (0, [])
    two = made.start("two", "-c", "2")  # so that the group looks again, which it would do in some minutes
    two.wait_for_line(" ready.")
    made.effects.wait_for(added, timeout=150)  # the first worker's client looks for new partitions once a minute
    until(lambda: made.backlog() == 0, what="a commit of all")
    made.effects.assert_once(added, "begin")
