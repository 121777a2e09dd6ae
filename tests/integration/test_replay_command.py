"""`celery kafka replay`: the tasks of a time run again on another queue, each once, and the originals are not touched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from celery import chord

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.message.copies import Replay
from kafka_exec.core.message.envelope import decode
from tests.integration.dead_tools import DYING
from tests.integration.records import committed
from tests.integration.workers import APP, PATIENCE, ROOT, Crew, crew, environment, until

REPLAY = Replay("replay", "shadow")

#: A program that runs a command ten times, each time in a child that is killed at its first transaction.
KILLED = f"""
import os
from celery.__main__ import main
import kafka_exec.operations.replays, {APP.partition(":")[0]}
for code in {[DYING.format(committed=kill % 2, at=1) for kill in range(10)]!r}:
    child = os.fork()
    if not child:
        exec(code)
    if os.waitpid(child, 0)[1] != {int(SIGKILL)}:
        raise SystemExit(1)
"""


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, "same") as found:
        yield found


def declare(made: Crew, queue: str) -> None:
    with made.app.connection_for_write() as connection:
        made.app.amqp.queues[queue](connection.default_channel).declare()


def states(made: Crew) -> list[tuple[bytes, int, int]]:
    """The place of each state record, by its key."""
    return sorted(
        (each.key(), each.partition(), each.offset()) for each in committed(made.kafka, f"{made.prefix}.state")
    )


def sent_to(made: Crew, queue: str) -> dict[str, list[dict[str, Any]]]:
    """The headers of the messages in a queue's topic, by their record keys."""
    found = defaultdict(list)
    for record in committed(made.kafka, f"{made.prefix}.queue.{queue}"):
        found[record.key().decode()].append(dict(decode(record.headers(), record.value()).headers))
    return found


def others(made: Crew) -> list[int]:
    """The numbers of records in the topics in which successors and parts of chords would leave some."""
    topics = (f"{made.prefix}.{name}" for name in ("queue.celery", "queue.elsewhere", "control"))
    return [sum(1 for _ in committed(made.kafka, topic)) for topic in topics]


def replay(made: Crew, *options: str) -> list[str]:
    """The lines that the command prints."""
    return made.command("kafka", "replay", "celery", "--to-queue", "shadow", "--from", "1h", *options).splitlines()


def test_yesterdays_tasks_run_on_another_queue_and_touch_nothing_of_the_originals(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2"))
    tasks = made.app.tasks
    plain = made.send("work", number=3)
    keyed = made.send("work", number=20, ordering_key="k")
    retried = made.send("stumble", 1)
    linked = made.send("work", link=tasks["work"].si().set(task_id="follower"))
    made.effects.wait_for([*plain, *keyed, *retried, *linked, "follower"])
    declare(made, "elsewhere")
    parts = [tasks["add"].s(1, n).set(task_id=f"part-{n}") for n in range(3)]
    chord(parts, tasks["total"].s().set(task_id="body", queue="elsewhere")).delay()
    chosen = [*plain, *keyed, *retried, *linked, "follower", *(f"part-{n}" for n in range(3))]
    until(lambda: made.app.AsyncResult("part-2").ready(), what="the parts of the chord")
    until(lambda: "body" in {each["id"] for group in sent_to(made, "elsewhere").values() for each in group})
    until(lambda: made.backlog() == 0, what="the commits of all ends")
    made.workers[0].stop()
    before, others_before = states(made), others(made)

    declare(made, "shadow")
    listed = [json.loads(line) for line in replay(made, "--dry-run", "--json")]
    assert {each["id"]: each["copy"] for each in listed} == {each: REPLAY.id_of(each) for each in chosen}
    assert sent_to(made, "shadow") == {}
    assert replay(made, "--yes", "--rate", "1000/s")[-1] == f"sent {len(chosen)} copies to shadow"
    assert "no tasks are chosen" in made.run("kafka", "replay", "celery", "--to-queue", "shadow", "--from", "1h").stderr
    copies = sent_to(made, "shadow")
    assert [each["id"] for each in copies["k"]] == [REPLAY.id_of(each) for each in keyed]
    assert sum(map(len, copies.values())) == len(chosen)
    assert states(made) == before

    made.ready(made.start("two", "-c", "2", "-Q", "shadow"), queue="shadow")
    own = [REPLAY.id_of(each) for each in chosen]
    until(lambda: all(made.app.AsyncResult(each).ready() for each in own), what="the results of the copies")
    until(lambda: made.backlog("shadow") == 0, what="the commits of the copies' ends")
    assert [made.app.AsyncResult(REPLAY.id_of(f"part-{n}")).result for n in range(3)] == [1, 2, 3]
    of_originals = {each.encode() for each in (*chosen, "body")}
    assert [each for each in states(made) if each[0] in of_originals] == [
        each for each in before if each[0] in of_originals
    ]
    made.effects.assert_once([*plain, *keyed, *retried, *linked, "follower"])
    made.effects.assert_once(REPLAY.id_of(each) for each in (*plain, *keyed, *retried, *linked, "follower"))
    ends = [each.task for each in made.effects.all() if each.task in {REPLAY.id_of(key) for key in keyed}]
    assert ends == [REPLAY.id_of(each) for each in keyed]
    assert others(made) == others_before  # nothing follows the copies, and no chord has counted them


def test_a_replay_that_is_killed_ten_times_sends_each_copy_once(made: Crew) -> None:
    ids = made.send("work", number=1100)
    declare(made, "shadow")
    options = ("replay", "celery", "--to-queue", "shadow", "--from", "1h", "--yes")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "-A", APP, "kafka", *options, "--rate", "100/s"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=4 * PATIENCE,
        env=environment(made.url, made.folder, made.conf, **made.env),
    )
    assert killed.returncode == 0
    assert replay(made, "--yes")[-1] == "sent 600 copies to shadow"
    found = [each["id"] for group in sent_to(made, "shadow").values() for each in group]
    assert sorted(found) == sorted(map(REPLAY.id_of, ids))


def test_only_what_is_chosen_is_copied_and_what_cannot_be_is_told(made: Crew) -> None:
    one, _ = made.send("add", 1, 1), made.send("add", 2, 2)
    made.send("add", 1, 3, serializer="yaml")
    made.send("work")
    found = made.run("kafka", "replay", "celery", "--from", "1h", "--to-queue", "shadow")
    assert (found.returncode, found.stdout) == (1, "")
    assert "celery amqp queue.declare shadow makes one" in found.stderr
    made.command("amqp", "queue.declare", "shadow")
    found = made.run(
        *("kafka", "replay", "celery", "--from", "1h", "--to-queue", "shadow"),
        *("--yes", "--name", "a*", "--where", "args[0] == 1", "--json"),
    )
    assert json.loads(found.stdout) == {"schema": 1, "queue": "shadow", "sent": 1}
    assert list(sent_to(made, "shadow")) == [REPLAY.id_of(one[0])]
    told = made.run("kafka", "replay", "celery", "--from", "1h", "--to-queue", "shadow", "--name", "add", "--dry-run")
    assert "1 cannot be copied, such as: the task at" in told.stderr
    assert "its body is application/x-yaml" in told.stderr
    assert "1 copies would be sent" in told.stderr


def test_a_queue_may_be_its_own_target_and_copies_are_not_copied(made: Crew) -> None:
    made.send("work", number=3)
    for sent in ("sent 3 copies to celery", None):
        found = made.run(
            "kafka", "replay", "celery", "--from", "1h", "--to-queue", "celery", "--in-place", "--yes", "--as", "again"
        )
        assert (found.stdout.splitlines() or [None])[-1] == sent
    assert sum(map(len, sent_to(made, "celery").values())) == 6
