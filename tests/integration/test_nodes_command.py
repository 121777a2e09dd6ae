"""`celery kafka nodes`: who is there, who was, and what each can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_exec import __version__
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.topology import nodes_topic
from kafka_exec.core.nodes.heartbeat import Heartbeat, NodeState, roll
from kafka_exec.kafka.nodes.node import TASKS_EVERY, heard
from kafka_exec.settings.appconf import broker_home
from tests.integration.records import read
from tests.integration.workers import PATIENCE, Crew, crew, until


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path) as found:
        yield found


def nodes(made: Crew, *options: str) -> dict[str, dict[str, Any]]:
    """The objects that ``nodes --json`` prints, by name."""
    lines = made.command("kafka", "nodes", *options, "--json").splitlines()
    return {node["name"]: node for node in map(json.loads, lines)}


def seen(made: Crew) -> dict[str, tuple[NodeState, Heartbeat]]:
    """What is heard of the nodes now, by name: to wait for it by the command would take a process for each look."""
    space, now = broker_home(made.app), time.time()
    beats = heard(space.cluster, nodes_topic(space.topics), now - 600)
    return {each.name: (state, each.beat) for each, state in roll(beats, now=now, period=space.settings.heartbeat)}


def test_it_tells_who_lives_who_left_who_is_lost_and_what_each_does(made: Crew) -> None:
    busy = made.start("busy", "-c", "3", "-Q", "celery")
    made.ready(busy)
    gate = made.gate()
    held = made.send("hold", str(gate))
    made.effects.wait_for(held, "begin")
    other = made.start("other", "-c", "1", "-P", "solo", "-Q", "mail,post", env={"RESULT_BACKEND": made.url})
    killed = made.start("killed", "-c", "1", "-P", "solo", "-Q", "mail")
    made.ready(other, killed, queue=None)

    def all_is_told() -> bool:
        beats = {name: beat for name, (_, beat) in seen(made).items()}
        other_is_told = beats["other@test"].control and beats["other@test"].queues
        return bool(other_is_told and beats["busy@test"].active == 1 and beats["killed@test"].queues)

    until(all_is_told, what="the first heartbeats of all workers with what they do")
    found = nodes(made)
    assert {name: node["state"] for name, node in found.items()} == dict.fromkeys(
        ("busy@test", "other@test", "killed@test"), "alive"
    )
    mine = found["busy@test"]
    assert {(node["kind"], node["version"]) for node in found.values()} == {("worker", __version__)}
    assert (mine["slots"], mine["queues"], mine["pid"]) == (3, ["celery"], busy.process.pid)
    assert mine["known"] == len(mine["tasks"])
    assert {"add", "hold", "work"} <= set(mine["tasks"])
    assert not any(name.startswith("celery.") for name in mine["tasks"])
    assert not mine["control_plane"]
    assert (found["busy@test"]["active"], found["other@test"]["queues"]) == (1, ["mail", "post"])
    assert found["other@test"]["control_plane"]
    assert set(nodes(made, "--task", "hold")) == set(found)
    assert nodes(made, "--task", "nobody.knows.this") == {}

    gate.touch()
    other.stop()
    killed.kill()
    expected = {"busy@test": "alive", "other@test": "left", "killed@test": "lost"}
    until(lambda: {name: state.value for name, (state, _) in seen(made).items()} == expected, what=str(expected))
    until(lambda: seen(made)["busy@test"][1].active == 0)
    assert {name: node["state"] for name, node in nodes(made).items()} == expected
    heading, *rows = made.command("kafka", "nodes").splitlines()
    assert heading.split()[:7] == ["NAME", "STATE", "KIND", "VERSION", "INCARNATION", "HOST", "PID"]
    told = [[name, expected[name], "worker", __version__] for name in sorted(expected)]
    assert [row.split()[:4] for row in rows] == told

    made.ready(made.start("killed", "-c", "1", "-P", "solo", "-Q", "mail"), queue=None)
    again = nodes(made)
    assert again["killed@test"]["state"] == "alive"
    assert again["killed@test"]["incarnation"] != found["killed@test"]["incarnation"]
    assert len(made.command("kafka", "nodes").splitlines()) == 1 + len(expected)


def test_the_brokers_url_is_enough(made: Crew) -> None:
    made.start("one", "-c", "1", "-P", "solo").wait_for_line(" ready.")
    asked = subprocess.run(
        [sys.executable, "-m", "celery", "-b", made.url, "kafka", "nodes"],
        cwd=made.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={name: value for name, value in os.environ.items() if not name.startswith("CELERY")},
    )
    assert (asked.returncode, asked.stderr) == (0, "")
    assert "one@test" in asked.stdout


def test_task_names_are_told_now_and_then(made: Crew, kafka: EmbeddedKafka) -> None:
    made.start("one", "-c", "1", "-P", "solo", kafka_exec_heartbeat=0.05)
    records = read(kafka, f"{made.prefix}.nodes", 3 * TASKS_EVERY)
    beats = [beat for record in records if (beat := Heartbeat.decode(record.value())) is not None]
    told = [number for number, beat in enumerate(beats) if beat.tasks is not None]
    assert told[0] == 0
    assert TASKS_EVERY in told
    assert len(told) <= len(beats) / TASKS_EVERY + 1
    assert all(len(beat.encode()) < 400 for beat in beats if beat.tasks is None)
