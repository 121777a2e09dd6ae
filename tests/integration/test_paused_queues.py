"""A paused queue, or ordering key, begins nothing in any worker, until it is resumed or the pause's time is over."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.cli import kafka as commands
from kafka_exec.core.overview.why import Answer, Reason
from kafka_exec.errors import ConfigurationError, NoSuchQueue
from kafka_exec.flower.queues import Queues
from kafka_exec.kafka.overview.reading import layout_of
from kafka_exec.kafka.overview.unfinished import paused
from kafka_exec.kafka.overview.why import why
from kafka_exec.operations.metrics import TopicMetrics
from kafka_exec.operations.queues import reports
from kafka_exec.settings.appconf import broker_home
from tests.integration.workers import Crew, Worker, crew, until

#: The workers of the large test, and their slots. Threads: a process for each slot would cost a start each.
WORKERS, SLOTS = "abcd", 2

#: One partition for each of them.
FEW = {"queue": 4, "state": 4}


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", kafka_exec_partitions=FEW, kafka_exec_session_timeout=6) as found:
        yield found


def run(made: Crew, *words: str) -> Result:
    """Runs a command in this process: one of its own would take a second to start."""
    logger = logging.getLogger("kafka_exec")
    level = logger.level
    try:
        return CliRunner().invoke(commands, [*words], obj=SimpleNamespace(app=made.app))
    finally:
        logger.setLevel(level)  # a command says less than other programs


def facts(made: Crew) -> dict[str, object]:
    now = time.time()
    (found,) = reports(broker_home(made.app), ("celery",), now)
    return found.facts(now)


def wait_for(made: Crew, **expected: object) -> None:
    """Waits until the queue's facts are as expected."""
    until(lambda: expected.items() <= facts(made).items(), what=str(expected))


def ask(made: Crew, task_id: str) -> Answer:
    space = broker_home(made.app)
    return why(space.cluster, space.topics, made.app.backend.history, task_id, time.time())


def start(made: Crew, turn: int) -> list[Worker]:
    options = ("-P", "threads", "-c", str(SLOTS), "-Q", "celery,other")
    workers = [made.start(f"{name}{turn}", *options) for name in WORKERS]
    made.ready(*workers)
    return workers


def begun(made: Crew, tasks: Iterable[str]) -> Counter[str]:
    wanted = set(tasks)
    return Counter(effect.task for effect in made.effects.all("begin") if effect.task in wanted)


def take_all_slots(made: Crew, but: int = 0) -> None:
    """Runs a task in each slot of all workers: each worker has looked for tasks to begin when it is over.

    Args:
        but: so many slots are taken by others.
    """
    gate = made.gate()
    held = made.send("hold", str(gate), number=len(WORKERS) * SLOTS - but, queue="other")
    made.effects.wait_for(held, "begin")
    gate.touch()
    made.effects.wait_for(held)


@pytest.mark.timed
def test_a_paused_queue_begins_nothing_in_four_workers_nor_in_their_successors(made: Crew) -> None:
    workers = start(made, 1)
    [suspended] = made.send("wait", "approval")
    made.effects.wait_for([suspended], "begin")
    gate, last = made.gate(), made.gate()
    [lost] = made.send("hold", str(last))
    running = made.send("hold", str(gate), number=len(WORKERS) * SLOTS - 3)
    retried = made.send("hold", str(gate), 1) + made.send("hold", str(gate), 1, ordering_key="k")
    made.effects.wait_for([lost, *running, *retried], "begin")
    fresh, keyed = made.send("work", number=20), [*made.send("work", number=4, ordering_key="k")]
    keyed += made.send("work", number=4, ordering_key="l")

    kafka_exec.pause_queue(made.app, "celery", by="ann", reason="a move")
    for worker in workers:
        worker.wait_for_line("queue celery is paused by ann: a move")
    fresh += made.send("work", number=10) + made.send("work", countdown=1.5)
    kafka_exec.resume(made.app, "approval", "yes")
    gate.touch()
    made.effects.wait_for([*running, *retried])  # what runs ends
    # Fresh ones, the two retries, the continuation, and the first of key l; behind them 4 of key k, and 3 of key l.
    wait_for(made, ready=31 + 2 + 1 + 1, blocked=4 + 3, running=1, delayed=0, state="paused")
    take_all_slots(made, but=1)
    again = [lost, *retried, suspended]
    waiting = [*fresh, *keyed, *again]
    once = dict.fromkeys(again, 1)
    assert begun(made, waiting) == once
    waits = ask(made, fresh[0])
    assert (waits.reason, waits.facts["by"], waits.facts["why"]) == (Reason.PAUSED, "ann", "a move")
    behind = ask(made, keyed[0])
    assert behind.head is not None
    assert (behind.reason, behind.head.id, behind.head.reason) == (Reason.BEHIND, retried[1], Reason.PAUSED)

    name = next(effect.worker for effect in made.effects.all("begin") if effect.task == lost)
    for worker in workers:
        end = worker.kill if worker.name == name else worker.terminate
        end()
    assert sum(worker.wait() == 0 for worker in workers) == len(WORKERS) - 1
    workers = start(made, 2)
    for worker in workers:
        worker.wait_for_line("queue celery is paused by ann: a move")
    take_all_slots(made)
    assert begun(made, waiting) == once
    wait_for(made, ready=35, running=0, lost=1, state="paused")

    last.touch()
    assert kafka_exec.resume_queue(made.app, "celery")
    resumed_at = time.time()
    made.effects.wait_for([*fresh, *keyed, lost, suspended])
    until(lambda: begun(made, waiting) == {**dict.fromkeys(waiting, 1), **dict.fromkeys(again, 2)})
    first = min(effect.time for effect in made.effects.all("begin") if effect.task in fresh)
    assert first < resumed_at + 1
    ends = [effect.task for effect in sorted(made.effects.all(), key=lambda e: e.time)]
    assert [task for task in ends if task in keyed[:4]] == keyed[:4]
    wait_for(made, ready=0, running=0, blocked=0, state="empty", paused=None)


@pytest.mark.timed
def test_a_paused_key_keeps_only_its_own_tasks_and_goes_on_when_its_time_is_over(made: Crew) -> None:
    only = made.start("only", "-P", "threads", "-c", "1")
    made.ready(only)
    gate = made.gate()
    held = made.send("hold", str(gate))
    made.effects.wait_for(held, "begin")
    of_key = made.send("work", number=2, ordering_key="k")  # the first one waits for the slot
    others = made.send("work", number=2)
    kafka_exec.pause_queue(made.app, "celery", key="k", by="ann")
    only.wait_for_line("key k of queue celery is paused by ann: no reason is given")
    of_key += made.send("work", ordering_key="k")
    others += [*made.send("work", number=3, ordering_key="l"), *made.send("work", number=3)]
    gate.touch()
    made.effects.wait_for([*held, *others])
    wait_for(made, ready=1, blocked=2, running=0, state="working")
    assert begun(made, of_key) == {}
    assert ask(made, of_key[0]).facts["key"] == "k"
    (told,) = (json.loads(line) for line in run(made, "keys", "--json").stdout.splitlines())
    assert (told["key"], told["state"], told["waiting"]) == ("k", "paused", 3)

    # A worker that ceases to consume the queue leaves its tasks to others, also those that are paused.
    made.app.control.cancel_consumer("celery", destination=[only.node], reply=True)
    admin, group = made.kafka.admin(), f"{made.prefix}.queue.celery"
    until(lambda: not admin.describe_consumer_groups([group])[group].result(10).members, what=f"{group} is left")
    made.app.control.add_consumer("celery", destination=[only.node], reply=True)
    made.shared_out("celery", 1)

    over = time.time() + 2
    kafka_exec.pause_queue(made.app, "celery", key="k", by="bob", until=over)
    made.effects.wait_for(of_key)
    first, *rest = (effect for effect in made.effects.all("begin") if effect.task in of_key)
    assert [first.task, *(effect.task for effect in rest)] == of_key
    assert over <= first.time < over + 1
    wait_for(made, ready=0, blocked=0, state="empty", paused_keys={})
    only.stop()


def test_the_commands_tell_what_is_paused_and_refuse_what_is_wrong(made: Crew) -> None:
    made.send("work", number=2)
    unknown = run(made, "queues", "pause", "nothing")
    assert (unknown.exit_code, unknown.stderr) == (1, "Error: there is no queue 'nothing'; there are celery\n")
    past = run(made, "queues", "pause", "celery", "--until", "2020-01-31 14:00")
    assert (past.exit_code, "must be still to come" in past.stderr) == (1, True)
    assert run(made, "queues", "pause", "celery", "--until", "soon").exit_code == 2
    running = run(made, "queues", "resume", "celery")
    assert (running.exit_code, "queue celery is not paused" in running.stderr) == (1, True)

    words = ("--reason", "a move", "--until", "2h", "--by", "ann", "--json")
    told = json.loads(run(made, "queues", "pause", "celery", *words).stdout)
    assert told["until"] - told["at"] == pytest.approx(7200, abs=5)
    assert {name: told[name] for name in ("schema", "queue", "key", "by", "reason")} == {
        "schema": 1, "queue": "celery", "key": None, "by": "ann", "reason": "a move",
    }  # fmt: skip
    line = run(made, "queues").stdout.splitlines()[1]
    assert line.split()[:2] == ["celery", "2"]
    assert "paused by ann until 2" in line
    assert line.endswith(": a move")
    assert json.loads(run(made, "queues", "celery", "--json").stdout)["paused"] == {
        name: told[name] for name in ("by", "at", "reason", "until")
    }
    checked = run(made, "status", "--check")
    assert (checked.exit_code, "nothing needs an operator" in checked.stdout) == (0, True)
    gauges = {gauge.name: gauge.samples for gauge in TopicMetrics(made.app).read(time.time())}
    assert gauges["queue_paused"] == [(("celery",), 1.0)]
    assert [each["state"] for each in Queues(made.app)._queues()] == ["paused"]

    assert run(made, "queues", "resume", "celery").stdout == "resumed queue celery\n"
    assert run(made, "queues", "pause", "celery", "--key", "k").stdout == "paused key k of queue celery\n"
    assert run(made, "queues").stdout.splitlines()[1].endswith("no workers, paused keys: 1")
    assert run(made, "queues", "resume", "celery").exit_code == 1
    assert json.loads(run(made, "queues", "resume", "celery", "--key", "k", "--json").stdout)["key"] == "k"
    assert run(made, "queues", "--verbose", "list").stdout.splitlines()[1].endswith("no workers")


def test_a_program_is_told_what_is_wrong_and_a_deleted_queue_is_not_paused_any_more(made: Crew) -> None:
    made.send("work")
    with pytest.raises(NoSuchQueue, match="there is no queue 'nothing'"):
        kafka_exec.resume_queue(made.app, "nothing")
    for wrong in ({"by": ""}, {"by": "ann", "key": ""}, {"by": "ann", "reason": "\ud800"}, {"by": "ann", "until": 1.0}):
        with pytest.raises(ConfigurationError):
            kafka_exec.pause_queue(made.app, "celery", **wrong)  # type: ignore[arg-type]
    assert not kafka_exec.resume_queue(made.app, "celery")
    kafka_exec.pause_queue(made.app, "celery", by="ann")
    kafka_exec.pause_queue(made.app, "celery", by="ann", key="k")
    space = broker_home(made.app)
    assert set(paused(space.cluster, space.topics, layout_of(space.cluster))["celery"].keys) == {"k"}
    with made.app.connection_for_write() as connection:
        connection.default_channel.queue_delete("celery")
    assert paused(space.cluster, space.topics, layout_of(space.cluster)) == {}


def test_no_consumer_gets_a_message_of_a_paused_queue(made: Crew) -> None:
    with made.app.connection_for_read() as connection, connection.SimpleQueue("plain") as queue:
        queue.put("first")
        kafka_exec.pause_queue(made.app, "plain", by="ann")
        with pytest.raises(queue.Empty):
            queue.get_nowait()
        kafka_exec.resume_queue(made.app, "plain")
        assert queue.get_nowait().payload == "first"
