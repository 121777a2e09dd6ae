"""`celery kafka queues`: its figures are those of an independent count, with and without workers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from kafka_exec import __version__
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.operations.queues import reports
from kafka_exec.settings.appconf import broker_home
from tests.integration.workers import APP, PATIENCE, ROOT, Crew, crew, environment, until

#: Some of what a queue's report says.
Facts = dict[str, Any]


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, kafka_exec_session_timeout=6) as found:
        yield found


def facts(made: Crew, queue: str = "celery") -> Facts:
    """The facts of a queue now: to wait for them by the command would take a process for each look."""
    now = time.time()
    (found,) = reports(broker_home(made.app), (queue,), now)
    return found.facts(now)


def wait_for(made: Crew, **expected: Any) -> None:
    """Waits until a queue's facts are as expected."""
    seen: Facts = {}

    def are_so() -> bool:
        seen.update(facts(made))
        return all(seen[name] == value for name, value in expected.items())

    try:
        until(are_so)
    except AssertionError:
        raise AssertionError(f"expected {expected}, the last facts were {seen}") from None


def test_without_a_worker_it_tells_what_waits_and_for_what(made: Crew) -> None:
    made.send("work", number=5)
    made.send("work", number=3, ordering_key="k")
    made.send("work", number=2, countdown=600)
    found = facts(made)
    told = ("ready", "running", "ordered", "blocked", "delayed", "workers", "slots", "dead", "state")
    assert [found[name] for name in told] == [6, 0, 2, 2, 2, 0, 0, 0, "no workers"]
    assert 0 <= found["oldest_age"] < 60
    assert found["rate"] == pytest.approx(8 / 60, abs=0.04)
    printed = made.command("kafka", "queues")
    header, line = printed.splitlines()
    assert header.split()[:6] == ["QUEUE", "READY", "RUNNING", "DELAYED", "BLOCKED", "PARKED"]
    assert line.split()[:6] == ["celery", "6", "0", "2", "2", "0"]
    assert "no workers" in line


def test_it_tells_what_runs_what_a_key_waits_for_and_what_a_lost_worker_ran(made: Crew) -> None:
    only = made.start("only", "-c", "2")
    made.ready(only)
    made.effects.wait_for(made.send("stumble", 1, 600, ordering_key="retried"), "retry")
    made.send("work", number=2, ordering_key="retried")
    made.effects.wait_for(made.send("break_lane", ordering_key="broken"), "begin")
    made.send("work", number=3, ordering_key="broken")
    made.send("picky", "no")
    gate = made.gate()
    held = made.send("hold", str(gate), number=2)
    made.effects.wait_for(held, "begin")
    made.send("work", number=4)
    waits = {"ready": 4, "running": 2, "lost": 0, "dead": 1, "delayed": 1, "workers": 1, "slots": 2, "free": 0}
    keys = {"stopped": 3, "held": 2, "ordered": 0}
    wait_for(made, **waits, **keys, state="full")
    (line,) = made.command("kafka", "queues", "--json").splitlines()
    told = json.loads(line)
    assert told["schema"] == 1
    assert {name: told[name] for name in waits} == waits

    only.kill()
    wait_for(made, lost=2, running=0, workers=0, state="no workers")
    gate.touch()
    again = made.start("again", "-c", "2")
    made.effects.wait_for(held, timeout=60)
    wait_for(made, ready=0, running=0, lost=0, stopped=3, held=2, state="blocked")
    again.stop()


def test_a_queue_that_does_not_exist_is_an_error_that_names_those_that_do(made: Crew) -> None:
    made.send("work")
    done = made.run("kafka", "queues", "nothing")
    assert (done.returncode, done.stderr) == (1, "Error: there is no queue 'nothing'; there are celery\n")


@contextmanager
def exporter(made: Crew) -> Iterator[Callable[[], dict[str, float]]]:
    """The command beside the block, at whose end it must end cleanly. Yields a function that scrapes it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", APP, "kafka", "exporter", "--port", "0"],
        cwd=ROOT,
        env=environment(made.url, made.folder),
        stdout=subprocess.PIPE,
        text=True,
    )

    def scrape() -> dict[str, float]:
        with urlopen(address, timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in (each.rsplit(" ", 1) for each in lines if each[0] != "#")}

    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[3].rstrip(".")
        yield scrape
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def test_the_exporter_serves_them_to_prometheus(made: Crew) -> None:
    made.send("work", number=3)
    with exporter(made) as scrape:
        scraped = scrape()
        assert scraped['kafka_exec_queue_ready{queue="celery"}'] == 3
        assert scraped["kafka_exec_up"] == 1
        assert scraped[f'kafka_exec_build_info{{version="{__version__}"}}'] == 1
        made.send("work")
        assert scrape()['kafka_exec_queue_ready{queue="celery"}'] == 4


def test_the_exporter_counts_what_tasks_come_to(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, backend="same") as made, exporter(made) as scrape:
        made.ready(made.start("only", "-c", "1", "-P", "solo"))

        def transitions(state: str) -> float:
            wanted = f'queue="celery",state="{state}",task="add"}}'
            return sum(
                value
                for name, value in scrape().items()
                if name.startswith("kafka_exec_task_transitions_total") and name.endswith(wanted)
            )

        for _ in range(3):
            made.app.tasks["add"].delay(1, 2).get(timeout=PATIENCE)
        until(lambda: transitions("DONE") == 3, what="three ends")
        with pytest.raises(TypeError):
            made.app.tasks["add"].delay(1, "2").get(timeout=PATIENCE)
        until(lambda: transitions("FAILED") == 1, what="a failure")
        found = scrape()
        assert found['kafka_exec_task_run_seconds_count{queue="celery",task="add"}'] == 4
        assert found['kafka_exec_task_wait_seconds_bucket{le="+Inf",queue="celery",task="add"}'] == 4
        assert 0 < found['kafka_exec_task_wait_seconds_sum{queue="celery",task="add"}'] < PATIENCE


def test_the_status_says_what_needs_an_operator(made: Crew) -> None:
    made.send("work", number=2)
    done = made.run("kafka", "status", "--check")
    assert done.returncode == 3
    assert "wrong: 2 tasks wait in celery, and no worker reads it (celery -A APP worker -Q celery)" in done.stdout
    assert "nodes: none is alive" in done.stdout
    only = made.start("only", "-c", "1", "-P", "solo")
    made.ready(only)
    wait_for(made, ready=0, running=0, workers=1)
    done = made.run("kafka", "status", "--check")
    assert (done.returncode, "wrong: " in done.stdout) == (0, False), done.stdout
    (line,) = made.command("kafka", "status", "--json").splitlines()
    told = json.loads(line)
    assert (told["schema"], told["prefix"], told["nodes"]) == (1, made.prefix, {"worker": 1})
    assert [each["queue"] for each in told["queues"]] == ["celery"]
