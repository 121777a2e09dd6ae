"""Each thread of a worker, of its pool and of a beat raises, several times: all goes on, and it is seen that it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from celery import chord, group

from kafka_exec.broker import EmbeddedKafka
from tests.integration.beat_tools import Diary
from tests.integration.workers import PATIENCE, Beat, Crew, Worker, crew, until

APP = "tests.integration.raising_app:app"


class RaisingWorker(Worker):
    app = APP


class RaisingBeat(Beat):
    app = APP


def faults_of(made: Crew, kind: str) -> Any:
    """The number of errors that a node tells of in its heartbeats."""
    told = map(json.loads, made.command("kafka", "nodes", "--json").splitlines())
    return next((node["faults"] for node in told if node["kind"] == kind), 0)


def test_a_worker_does_all_its_work_while_its_threads_raise(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, "same", kafka_exec_partitions={"queue": 2}) as made:
        worker = made.start("w", "-c", "2", kind=RaisingWorker)
        made.ready(worker)
        tasks = [*made.send("work", number=20), *made.send("work", number=5, countdown=2)]
        part, total = made.app.tasks["part"], made.app.tasks["total"]
        assert chord(group(part.s(number) for number in range(5)))(total.s()).get(timeout=PATIENCE) == 10
        made.effects.wait_for(tasks)
        expected = {
            "control plane": 2,
            "delays": 2,
            f"consuming {made.prefix}.queue.celery": 2,
            "reading logs": 2,
            "kafka-exec-heartbeat": 2,
        }

        def told() -> dict[str, Any]:
            found: dict[str, Any] = made.app.control.inspect(timeout=10, limit=1).stats()["w@test"]["kafka_exec"][
                "faults"
            ]
            return found

        def are_told() -> bool:
            """True if each thread has told its errors. Others may have come, of a broker that is slow."""
            found = told()
            return all(doing in found and found[doing]["times"] >= times for doing, times in expected.items())

        until(are_told, what="the errors of each thread")
        assert told()["kafka-exec-heartbeat"]["last"] == "RuntimeError: turn of heartbeat, call 3"
        until(lambda: faults_of(made, "worker") >= sum(expected.values()))
        # What the threads of the pool's processes meet is in the log only.
        for thread in ("starts", "pauses"):
            assert f"kafka-exec-{thread}: RuntimeError: turn of {thread}, call 0; starting over" in worker.output
        worker.stop()


def test_a_beat_fires_while_its_threads_raise(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    schedule = {"e": {"task": "work", "schedule": 0.5, "catch_up": "all"}}
    with crew(kafka, tmp_path, beat_schedule=schedule, result_expires=None) as made:
        beat = made.start("b", kind=RaisingBeat)
        diary = Diary(made)
        diary.until_fired("e", 8)
        until(lambda: beat.output.count("RuntimeError: Exclusive, call 30; starting over") == 1)
        diary.until_fired("e", len(diary.read()[1]["e"]) + 2)
        # Two of the beat, of its reader, and of its heartbeats; an incarnation that ends early has one of these.
        until(lambda: faults_of(made, "beat") >= 6)
        beat.stop()
