"""Nodes and the entries that they fire: embedded beats, labels, turns, definitions that differ, and the tasks' requests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.beat.agenda import run_id
from kafka_exec.operations.metrics import TopicMetrics
from tests.integration.beat_tools import Diary, assert_each_once, name_of
from tests.integration.judge import judge_lanes
from tests.integration.workers import PATIENCE, Crew, crew, until


@contextmanager
def made_with(kafka: EmbeddedKafka, folder: Path, **schedule: dict[str, Any]) -> Iterator[Crew]:
    with crew(kafka, folder, beat_schedule=schedule, result_expires=None) as found:
        yield found


def test_a_beat_answers_a_ping(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, e={"task": "work", "schedule": 1.0}) as made:
        beat = made.start_beat("b", beat_enable_remote_control=True)
        answers = until(lambda: made.app.control.ping(timeout=1.0), what="an answer")
        assert [(name.partition("@")[0], answer) for each in answers for name, answer in each.items()] == [
            ("celerybeat", {"ok": "pong"})
        ]
        beat.stop()


def test_an_embedded_beat_fires_and_releases_at_the_workers_end(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, e={"task": "slotted", "schedule": 0.5, "catch_up": "all"}) as made:
        diary = Diary(made)
        worker = made.start("w", "-B", "--scheduler", "kafka-exec", "-c", "1")
        diary.until_fired("e", 4)
        until(lambda: len(made.effects.all("slot")) >= 4)
        worker.stop()
        assert diary.holders() == {}
        assert_each_once(made, {"e": 0.5})
        _, fired = diary.read()
        slots = [each.slot for each in fired["e"]]
        said = [float(effect.task) for effect in made.effects.all("slot")]
        assert said == slots[: len(said)], "each task knows its slot, and they run in order"


def test_a_run_waits_for_the_end_of_the_one_before(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    entry = {"task": "work", "schedule": 0.5, "args": [1.0], "catch_up": "all"}
    with made_with(kafka, tmp_path, e=entry) as made:
        made.start("w", "-c", "4")
        beat = made.start_beat("b")
        fired = Diary(made).until_fired("e", 4)
        beat.stop()
        lane = [run_id("e", each.slot) for each in fired[:4]]
        made.effects.wait_for(lane)
        effects = [effect for what in ("begin", "end") for effect in made.effects.all(what)]
        assert judge_lanes([lane], effects, {}).overlaps == []


def test_a_beat_that_is_told_to_end_while_it_starts_ends(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, e={"task": "work", "schedule": 0.5}) as made:
        for turn in range(5):
            beat = made.start_beat(f"b{turn}")
            beat.wait_for_line("beat: Starting...")
            time.sleep(0.03 * turn)  # a later moment of its start with each turn
            beat.stop()
        assert Diary(made).holders() == {}


def test_only_a_node_with_the_labels_fires(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    all_ = {"task": "work", "schedule": 0.5}
    with made_with(kafka, tmp_path, special={**all_, "labels": ["gpu"]}, plain=all_) as made:
        diary = Diary(made)
        made.start_beat("b1")
        diary.until_fired("plain", 3)
        assert set(diary.holders()) == {"plain"}
        able = made.start_beat("b2", kafka_exec_beat_labels=["gpu", "eu"])
        assert diary.until_held(1, by=diary.until_fired("special", 1)[0].by)["special"].startswith(name_of(able))


def test_an_entry_that_no_living_beat_may_fire_is_told_as_overdue(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    entry = {"task": "work", "schedule": 0.5, "catch_up": "all"}
    with made_with(kafka, tmp_path, special={**entry, "labels": ["gpu"]}, plain=entry) as made:
        metrics = TopicMetrics(made.app)

        def overdue() -> dict[str, float]:
            (found,) = [each for each in metrics.read(time.time()) if each.name == "periodic_overdue_seconds"]
            return {name: seconds for (name,), seconds in found.samples}

        assert overdue() == {}  # no beat has lived
        diary = Diary(made)
        made.start_beat("b1")
        able = made.start_beat("b2", kafka_exec_beat_labels=["gpu"])
        diary.until_fired("special", 1)
        diary.until_fired("plain", 1)
        assert set(until(lambda: len(found := overdue()) == 2 and found)) == {"plain", "special"}
        able.kill()
        lost = time.time()
        until(lambda: overdue()["special"] > 20, what="an overdue entry")
        assert time.time() - lost > 15
        until(lambda: overdue()["plain"] < 15, what="the other entry, which the other beat has taken over")


def test_nodes_take_turns(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    entry = {"task": "work", "schedule": 0.2, "catch_up": "all", "max_executions_on_node": 3}
    with made_with(kafka, tmp_path, e=entry) as made:
        diary = Diary(made)
        beats = [made.start_beat(name) for name in ("b1", "b2")]
        diary.until(lambda _, fired: len({each.by for each in fired["e"]}) == 2, "both have fired it")
        for beat in beats:
            beat.stop()
        assert_each_once(made, {"e": 0.2})


def test_a_definition_that_differs_is_told_and_holds_for_all(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, e={"task": "work", "schedule": 0.5}) as made:
        diary = Diary(made)
        made.start_beat("b1")
        diary.until_fired("e", 1)
        other = made.start_beat("b2", beat_schedule={"e": {"task": "work", "schedule": 0.7}})
        other.wait_for_line("e was defined otherwise by another node, or before (work: every 0.5 s)")


def test_a_sync_topic_with_more_partitions_is_refused(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with made_with(kafka, tmp_path, e={"task": "work", "schedule": 0.5}) as made:
        topic = f"{made.prefix}.sync"
        admin = kafka.admin()  # a client that nobody holds ends, and its requests with it
        admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(10)
        beat = made.start_beat("b1")
        assert beat.wait() != 0
        assert f"topic {topic}: it has 2 partitions, 1 are declared: stop all beats, delete the topic" in beat.output


@pytest.mark.parametrize("catch_up", ["one", "all"])
def test_what_was_missed_is_made_up_for_as_the_entry_says(kafka: EmbeddedKafka, tmp_path: Path, catch_up: str) -> None:
    with made_with(kafka, tmp_path, e={"task": "work", "schedule": 0.2, "catch_up": catch_up}) as made:
        diary = Diary(made)
        first = made.start_beat("b1")
        diary.until_fired("e", 3)
        first.stop()
        stopped = time.time()
        made.start_beat("b2")
        diary.until_fired("e", 8, after=stopped)
        log, fired = diary.read()
        slots = [round(each.slot / 0.2) for each in fired["e"]]
        left_out = slots[-1] - slots[0] + 1 - len(slots)
        assert len(set(slots)) == len(slots)
        assert log.standing("e").missed == left_out
        assert (left_out == 0) == (catch_up == "all")


def test_an_entry_whose_runs_fail_goes_on(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    entry = {"task": "fail", "schedule": 0.5, "args": ["no"], "catch_up": "all"}
    with crew(kafka, tmp_path, backend="same", beat_schedule={"e": entry}) as made:
        made.start("w", "-c", "1")
        beat = made.start_beat("b")
        fired = Diary(made).until_fired("e", 3)
        beat.stop()
        for each in fired[:3]:
            result = made.app.AsyncResult(run_id("e", each.slot))
            assert isinstance(result.get(timeout=PATIENCE, propagate=False), ValueError)
