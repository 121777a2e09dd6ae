"""`celery kafka dead`: letters are listed, shown, replayed once and deleted, whatever they hold and who is killed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from confluent_kafka import Producer

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.message.dead import LetterAddress, Order, RawHeaders
from kafka_exec.errors import NoSuchLetter, NotReplayable
from kafka_exec.kafka.queue.dead import DeadLetters, queues_with_letters
from tests.integration.dead_tools import DYING, Morgue, command, done, listed, run, task
from tests.integration.workers import PATIENCE, ROOT, Crew, crew, environment, until


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path) as found:
        yield found


# -- one letter's way --------------------------------------------------------------------------------------------------


def test_a_tasks_letter_is_found_corrected_and_replayed_to_its_end(made: Crew) -> None:
    made.ready(made.start("one", "-c", "1"))
    (task_id,) = made.send("picky", "now")
    letter = until(lambda: listed(made, "celery"), what="a dead letter")[0]
    address = f"{letter['partition']}:{letter['offset']}"
    assert letter.items() >= {"queue": "celery", "reason": "rejected", "task": "picky", "id": task_id}.items()
    assert letter["from"]["topic"] == f"{made.prefix}.queue.celery"

    heading, row = done(made, "list").splitlines()
    assert heading.split()[:3] == ["QUEUE", "LETTER", "WHEN"]
    assert row.split()[:2] == ["celery", address]
    shown = json.loads(done(made, "show", "celery", address, "--json"))
    assert shown["body"][:2] == [["now"], {}]
    assert dict(shown["headers"])["dead-reason"] == "rejected"

    done(made, "replay", "celery", address, "--args", '["please"]', "--yes")
    made.effects.wait_for([task_id])
    assert listed(made, "celery") == []
    (again,) = listed(made, "celery", "--all-letters")
    assert again["replayed"]
    assert "yes" in done(made, "list", "--all-letters").splitlines()[1].split()
    assert "Nothing to replay" in run(made, "replay", "celery", "--all", "--yes").stderr


def test_a_letter_that_dies_again_is_another_one_and_counts_its_replays(made: Crew) -> None:
    made.ready(made.start("one", "-c", "1"))
    (task_id,) = made.send("picky", "now")
    for replays in range(3):
        (letter,) = until(lambda: listed(made, "celery"), what="a dead letter")
        assert (letter["id"], letter["replays"]) == (task_id, replays)
        if replays < 2:
            done(made, "replay", "celery", "--task", "picky", "--yes")
    assert len(listed(made, "celery", "--all-letters")) == 3


# -- looking -----------------------------------------------------------------------------------------------------------


def test_the_latest_of_all_queues_come_first_and_can_be_narrowed(made: Crew) -> None:
    one, other = Morgue(made), Morgue(made, "späm/1")
    one.bury_tasks(3, "add")
    other.bury(*task("sub", "s"), reason="bad-headers", error="a\nlong " + "x" * 200)
    assert queues_with_letters(one.topics, one.cluster.topics.counts()) == ["celery", "späm/1"]

    found = listed(made)
    assert [letter["at"] for letter in found] == sorted((letter["at"] for letter in found), reverse=True)
    assert Counter(letter["queue"] for letter in found) == {"celery": 3, "späm/1": 1}
    assert [letter["id"] for letter in listed(made, "--reason", "bad-headers")] == ["s"]
    assert {letter["id"] for letter in listed(made, "--task", "add")} == {"add-0", "add-1", "add-2"}
    assert listed(made, "späm/1", "--task", "add") == listed(made, "nobody") == []
    text = run(made, "list", "--limit", "1")
    assert len(text.stdout.splitlines()) == 2
    assert "3 more" in text.stderr
    assert max(map(len, done(made, "list", "späm/1").splitlines())) < 200


@pytest.mark.parametrize("value", [None, b"", b"\xff\x00\x1b[31m", b"hello"])
def test_a_foreign_record_is_listed_shown_and_replayed_as_it_is(made: Crew, value: bytes | None) -> None:
    morgue = Morgue(made)
    headers: RawHeaders = [("mine", b"\xfe"), ("none", None), ("mine", b"2")]
    morgue.bury(value, headers, reason="no-content-type")
    (letter,) = listed(made, "celery")
    address = f"{letter['partition']}:{letter['offset']}"
    assert (letter["reason"], letter["task"], letter["id"]) == ("no-content-type", "", "")

    text = done(made, "show", "celery", address)
    assert "\x1b" not in text
    assert "body: none" in text if value is None else f"body: {len(value)} bytes" in text
    assert "header mine: \\xfe" in text.replace("\\\\", "\\")
    shown = json.loads(done(made, "show", "celery", address, "--json"))
    assert shown["size"] == (None if value is None else len(value))
    assert ["none", None] in shown["headers"]

    done(made, "replay", "celery", address, "--yes")
    (record,) = morgue.records()
    assert (record.value(), record.key(), record.partition()) == (value, None, 3)
    assert record.headers()[:-1] == headers
    assert record.headers()[-1][0] == "replayed-from"


def test_what_is_asked_wrongly_is_told_in_one_line(made: Crew) -> None:
    morgue = Morgue(made)
    morgue.bury_tasks(2)
    for arguments, message in {
        ("show", "celery", "3:99"): "Error: queue celery has no dead letter at 3:99",
        ("show", "celery", "99:3"): "Error: queue celery has no dead letter at 99:3",
        ("show", "celery", "three"): "'three' is no address of a letter",
        ("replay", "celery"): "name the letters, or choose them",
        ("replay", "celery", "--all", "--again"): "--again is for letters that are named",
        ("replay", "celery", "--all", "--rate", "fast"): "'fast' is no rate",
        ("replay", "celery", "--all", "--args", "{}"): "'{}' is no JSON list",
        ("replay", "celery", "--task", "work", "--args", "[]"): "2 letters would get the same arguments",
        ("replay", "celery", "--all"): "There is no terminal to ask on",
        ("replay", "celery", "3:99", "--yes"): "Error: queue celery has no dead letter at 3:99",
    }.items():
        found = run(made, *arguments)
        assert found.returncode in (1, 2), arguments
        assert message in found.stderr
        assert "Traceback" not in found.stderr
    without = run(made, "list", broker="memory://")
    assert without.returncode == 1
    assert without.stderr.startswith("Error: the application has no kafka-exec:// broker")
    assert len(without.stderr.splitlines()) == 1
    assert morgue.records() == []


# -- replaying ---------------------------------------------------------------------------------------------------------


def test_key_value_headers_and_order_are_those_of_the_record_that_died(made: Crew) -> None:
    morgue = Morgue(made)
    ids = morgue.bury_tasks(300, keys=7)
    assert "300 letters would be replayed" in run(made, "replay", "celery", "--all", "--dry-run").stderr
    assert morgue.records() == []
    assert done(made, "replay", "celery", "--all", "--yes") == "300 replayed\n"

    in_order = defaultdict(list)
    letters = {letter.address: letter.id for letter in morgue.all()}
    for record in morgue.records():
        headers = dict(record.headers())
        name = json.loads(headers["headers"])["id"]
        in_order[record.key().decode()].append(name)
        value, original = task("work", name)
        assert record.value() == value
        assert record.headers()[:-1] == original
        came = json.loads(headers["replayed-from"])
        assert (came["topic"], came["count"]) == (morgue.letters.topic, 1)
        assert letters[LetterAddress(came["partition"], came["offset"])] == name
    assert in_order == {f"key-{n}": ids[n::7] for n in range(7)}


@pytest.mark.parametrize("committed", [False, True])
def test_a_replay_that_is_killed_is_finished_by_the_next_one(made: Crew, committed: bool) -> None:
    morgue = Morgue(made)
    ids = morgue.bury_tasks(1700)
    killed = subprocess.run(
        command("replay", "celery", "--all", "--yes", code=DYING.format(committed=committed, at=2)),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        env=environment(made.url, made.folder, made.conf),
    )
    assert killed.returncode == -SIGKILL
    rest = 700 if committed else 1200
    assert done(made, "replay", "celery", "--all", "--yes") == f"{rest} replayed\n"
    assert morgue.replayed() == dict.fromkeys(ids, 1)
    assert all(letter.replayed for letter in morgue.all())


def test_two_replays_at_once_replay_each_letter_once(made: Crew) -> None:
    morgue = Morgue(made)
    ids = morgue.bury_tasks(1700)
    both = [
        subprocess.Popen(
            command("replay", "celery", "--all", "--yes"),
            cwd=ROOT,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(made.url, made.folder, made.conf),
        )
        for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 or "the same command does the rest" in errors
        assert "Traceback" not in errors
    done(made, "replay", "celery", "--all", "--yes")
    assert morgue.replayed() == dict.fromkeys(ids, 1)


def test_a_replayed_letter_is_replayed_once_more_only_if_that_is_said(made: Crew) -> None:
    morgue = Morgue(made)
    morgue.bury_tasks(1)
    address = morgue.all()[0].address
    for order, replayed in (
        (Order(), 1),
        (Order(), 0),
        (Order([address]), 0),
        (Order([address], again=True), 1),
        (Order(), 0),
    ):
        assert morgue.letters.replay(order) == replayed
    assert morgue.replayed() == {"work-0": 2}


def test_a_mark_behind_somebodys_open_transaction_counts(made: Crew) -> None:
    morgue = Morgue(made)
    ids = morgue.bury_tasks(2, keys=1)
    partition = morgue.all()[0].address.partition
    somebody = Producer({**made.kafka.client_config(), "transactional.id": f"{made.prefix}.somebody"})
    somebody.init_transactions(PATIENCE)

    def begin(replayed: int) -> None:
        if replayed == 1:
            somebody.begin_transaction()
            somebody.produce(morgue.letters.topic, b"", partition=partition)
            somebody.flush(PATIENCE)

    class Watched(DeadLetters):
        def _spans(self, **options: Any) -> Any:
            found = super()._spans(**options)
            somebody.abort_transaction(PATIENCE)
            return found

    assert morgue.letters.replay(Order(), rate=1.0, on_progress=begin) == 2
    assert [letter.id for letter in morgue.all()] == ids  # looking does not wait
    assert Watched(morgue.cluster, morgue.topics, "celery").replay(Order()) == 0
    assert morgue.replayed() == dict.fromkeys(ids, 1)


def test_a_rate_is_kept(made: Crew) -> None:
    morgue = Morgue(made)
    morgue.bury_tasks(10)
    began = time.monotonic()
    assert morgue.letters.replay(Order(), rate=5.0) == 10
    assert time.monotonic() - began >= 1.0  # five at once, five a second later


def test_what_cannot_be_replayed_is_told_and_stops_no_other(made: Crew) -> None:
    morgue = Morgue(made)
    (fine,) = morgue.bury_tasks(1)
    morgue.bury(None, [("task", b"work")], key="lost", reason="lost-record")
    morgue.bury(b"x", key="gone", origin=(f"{made.prefix}.queue.gone", 0, 0))
    morgue.cluster.publisher.send(morgue.letters.topic, b"x", key="put here by somebody")
    bad = {letter.key: letter.address for letter in morgue.all() if letter.id != fine}
    for key, why in {
        b"lost": "its message was deleted: send the task again",
        b"gone": "queue.gone does not exist: declare the queue first",
        b"put here by somebody": "it does not say where it came from",
    }.items():
        with pytest.raises(NotReplayable, match=why):
            morgue.letters.replay(Order([bad[key]]))
    with pytest.raises(NoSuchLetter):
        morgue.letters.replay(Order([*bad.values(), LetterAddress(0, 10_000)]))
    found = run(made, "replay", "celery", "--all", "--yes")
    assert found.stdout == "1 replayed\n"
    assert found.stderr.startswith("3 cannot be replayed, such as: letter ")
    assert morgue.replayed() == {fine: 1}


def test_other_arguments_for_what_is_no_json_are_refused_before_anything_is_replayed(made: Crew) -> None:
    morgue = Morgue(made)
    morgue.bury_tasks(1)
    morgue.bury(b"\x80\x04", [("content-type", b"application/x-python-serialize")], key="pickle")
    found = run(made, "replay", "celery", "--all", "--kwargs", '{"a": 1}', "--yes")
    assert found.returncode == 1
    assert "its body is application/x-python-serialize" in found.stderr
    assert morgue.records() == []


# -- deleting ----------------------------------------------------------------------------------------------------------


def test_a_purge_asks_and_deletes_the_oldest(made: Crew) -> None:
    morgue = Morgue(made)
    morgue.bury_tasks(20, "old")
    until(lambda: time.time() > max(letter.at for letter in morgue.all()) + 1)  # the command knows whole seconds
    border = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime())
    kept = morgue.bury_tasks(5, "new")

    assert "There is no terminal to ask on" in run(made, "purge", "celery").stderr
    ours, theirs = pty.openpty()
    try:
        with os.fdopen(theirs, "rb", closefd=False) as terminal:
            asked = subprocess.Popen(
                command("purge", "celery"),
                cwd=ROOT,
                stdin=terminal,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(made.url, made.folder, made.conf),
            )
        os.write(ours, b"n\n")
        _, said = asked.communicate(timeout=PATIENCE)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Delete 25 letters of celery?" in said
    assert asked.returncode == 1
    assert len(morgue.all()) == 25

    assert done(made, "purge", "celery", "--before", border, "--yes") == "20 deleted\n"
    assert {letter.id for letter in morgue.all()} == set(kept)
    assert done(made, "purge", "celery", "--yes") == "5 deleted\n"
    assert morgue.all() == []


def test_a_purge_of_letters_leaves_no_mark_that_concerns_others(made: Crew) -> None:
    morgue = Morgue(made)
    morgue.bury_tasks(3)
    assert morgue.letters.replay(Order()) == 3
    morgue.letters.purge(morgue.letters.older())
    later = morgue.bury_tasks(3, "later")
    assert {letter.id for letter in morgue.all() if not letter.replayed} == set(later)
    assert morgue.letters.replay(Order()) == 3
