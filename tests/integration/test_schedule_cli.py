"""Periodic entries that are looked at, added and changed while beats run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_exec.beat.periodic import PeriodicTasks
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import ConfigurationError
from tests.integration.beat_tools import Diary, name_of, published
from tests.integration.workers import APP, PATIENCE, ROOT, Crew, crew, environment, until


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    schedule = {"often": {"task": "work", "schedule": 0.5, "catch_up": "all"}}
    with crew(kafka, tmp_path, beat_schedule=schedule, result_expires=None) as found:
        yield found


def listed(made: Crew) -> dict[str, Any]:
    lines = made.command("kafka", "schedule", "list", "--json").splitlines()
    return {facts["name"]: facts for facts in map(json.loads, lines)}


def test_entries_are_added_changed_and_removed_while_beats_run(made: Crew) -> None:
    diary, tasks = Diary(made), PeriodicTasks(made.app)
    first = made.start_beat("b1")
    diary.until_held(1)
    made.command("kafka", "schedule", "add", "mine", "work", "every 1 s", "--args", "[0.01]", "--catch-up", "all")
    diary.until_fired("mine", 2)
    facts = listed(made)
    assert facts["mine"]["holder"].startswith(name_of(first))
    assert (facts["mine"]["source"], facts["often"]["source"]) == ("added", "config")
    assert facts["mine"]["next"] == pytest.approx(facts["mine"]["last"] + 1.0)
    assert facts["mine"]["policy"]["catch_up"] == "all"
    assert "mine" in made.command("kafka", "schedule", "list")
    assert "every 1 s" in made.command("kafka", "schedule", "show", "mine")

    tasks.pause("mine")
    paused = time.time()
    diary.until_fired("often", 6, after=paused)
    _, fired = diary.read()
    assert max(each.at for each in fired["mine"]) < paused + 2
    assert listed(made)["mine"]["paused"]

    made.command("kafka", "schedule", "run-now", "mine")
    (run,) = diary.until_fired("mine", 1, after=paused + 2)
    assert run.slot == pytest.approx(time.time(), abs=60)

    first.stop()
    resumed = time.time()
    tasks.resume("mine")
    made.start_beat("b2")
    after = diary.until_fired("mine", 2, after=resumed)
    assert all(each.slot > resumed for each in after), "what was due while it was paused is not made up for"

    tasks.remove("mine")
    until(lambda: "mine" not in diary.holders(), what="the removed entry is released")
    assert set(listed(made)) == {"often"}
    slots = [slot for key, found in published(made).items() if key == "beat mine" for slot in found]
    assert len(slots) == len(set(slots))


def test_who_holds_what_is_listed_and_the_table_is_printed(made: Crew) -> None:
    beat = made.start_beat("b1")
    Diary(made).until_fired("often", 1)
    (facts,) = map(json.loads, made.command("kafka", "claims", "--json").splitlines())
    assert facts["holder"].startswith(name_of(beat))
    assert (facts["entry"], facts["state"]) == ("often", "held")
    assert "often" in made.command("kafka", "claims")
    assert "## HANDLING_BY_NODE" in made.command("kafka", "claims", "--table")


def test_wrong_changes_are_refused(made: Crew) -> None:
    tasks = PeriodicTasks(made.app)
    tasks.add("mine", "work", 5)
    for act in (
        lambda: tasks.add("mine", "work", 6),
        lambda: tasks.add("other", "work", "soon"),
        lambda: tasks.add("other", "work", 5, catch_up="some"),
        lambda: tasks.add("other", "work", 5, unheard_of=1),
        lambda: tasks.pause("other"),
        lambda: tasks.remove("other"),
    ):
        with pytest.raises(ConfigurationError):
            act()
    assert [each.name for each in tasks.all()] == ["mine"]


def told(made: Crew, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command with what it says on stderr."""
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", APP, "kafka", "schedule", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(made.url, made.folder, made.conf, **made.env),
    )


def test_it_says_so_when_nobody_fires_or_knows_the_task(made: Crew) -> None:
    nobody, unknown = "No beat is alive: nothing is fired", "No worker that is alive knows the task nosuch.task"
    added = told(made, "add", "mine", "nosuch.task", "every 1 s")
    assert (added.returncode, added.stdout) == (0, "added mine\n")
    assert unknown in added.stderr
    assert nobody in told(made, "list").stderr
    beat = made.start_beat("b1")
    diary = Diary(made)
    diary.until_fired("mine", 1)
    listed_now = told(made, "list", "--json")
    assert nobody not in listed_now.stderr
    facts = {each["name"]: each for each in map(json.loads, listed_now.stdout.splitlines())}
    assert {each["state"] for each in facts.values()} == {"held"}
    assert facts["mine"]["next"] is not None
    beat.kill()
    until(lambda: nobody in told(made, "list").stderr, what="the beat is lost")
    facts = listed(made)
    assert {(each["state"], each["next"]) for each in facts.values()} == {("lost", None)}
    made.ready(made.start("one", "-c", "1"), queue=None)
    known = told(made, "add", "yours", "work", "every 1 s")
    assert (known.returncode, known.stderr) == (0, "")
    assert told(made, "add", "theirs", "celery.backend_cleanup", "every 1 d").stderr == ""


def test_what_is_no_schedule_is_one_line(made: Crew) -> None:
    refused = told(made, "add", "mine", "work", "nonsense")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: periodic entry mine: 'nonsense' is no schedule")
    assert len(refused.stderr.splitlines()) == 1
