"""``celery kafka import-redbeat`` with RedBeat's own entries in a Redis, by the command and as a beat sees them."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from redbeat import RedBeatSchedulerEntry
from redbeat.schedules import rrule

from kafka_exec.broker import EmbeddedKafka
from tests.integration.redis_tools import RedisServer
from tests.integration.workers import ROOT, Crew, crew, environment


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path, "secret")
    yield made
    made.stop()


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path) as found:
        yield found


def save_entries(server: RedisServer) -> None:
    """As an application with RedBeat does it."""
    app = Celery("old", broker=server.url, set_as_current=False)
    app.conf.update(redbeat_redis_url=server.url, redbeat_key_prefix="shop*:")
    for name, when, more in (
        ("minutely", schedule(60), {"args": [1], "kwargs": {"a": 2}, "options": {"queue": "q"}}),
        ("nightly", crontab(minute="0", hour="4", day_of_week="mon-fri"), {}),
        ("switched off", schedule(5), {"enabled": False}),
        ("monthly", rrule("MONTHLY"), {}),
    ):
        RedBeatSchedulerEntry(name, "work", when, app=app, **more).save()
    app.close()


def celery_kafka(made: Crew, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tests.integration.app:app", "kafka", *arguments],
        cwd=ROOT,
        env=environment(made.url, made.folder, made.conf, **made.env),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_entries_of_redbeat_are_listed_added_once_and_the_others_say_why(made: Crew, server: RedisServer) -> None:
    save_entries(server)
    command = ["import-redbeat", server.url, "--key-prefix", "shop*:"]

    listed = celery_kafka(made, *command, "--dry-run")
    assert listed.returncode == 0, listed.stderr
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["NAME", "TASK", "SCHEDULE", "STATE"],
        ["minutely", "work", "every", "60", "s"],
        ["nightly", "work", "0", "4", "*", "*", "mon-fri"],
        ["switched", "off", "work", "every", "5", "s", "paused"],
    ]
    assert "left out monthly: its schedule is a rrule" in listed.stderr

    assert celery_kafka(made, "schedule", "add", "nightly", "work", "30").returncode == 0
    added = celery_kafka(made, *command, "--yes")
    assert added.stdout.splitlines()[-1] == "added 2 entries"
    assert "left out nightly: there is an entry of this name" in added.stderr
    again = celery_kafka(made, *command, "--yes")
    assert (again.returncode, again.stdout) == (0, "no entries to add\n")

    shown = celery_kafka(made, "schedule", "list", "--json")
    found: dict[str, Any] = {each["name"]: each for each in map(json.loads, shown.stdout.splitlines())}
    assert {name: (each["schedule"], each["state"]) for name, each in found.items()} == {
        "minutely": ("every 60 s", found["minutely"]["state"]),
        "nightly": ("every 30 s", found["nightly"]["state"]),
        "switched off": ("every 5 s", "paused"),
    }
    assert found["minutely"]["state"] != "paused"


class Refusal(socketserver.BaseRequestHandler):
    """The answer of a Redis to a wrong password. fakeredis does not always refuse one when the machine is busy."""

    def handle(self) -> None:
        while self.request.recv(4096):
            self.request.sendall(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a Redis that refuses each password."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusal) as listener:
        listener.daemon_threads = True
        serving = threading.Thread(target=listener.serve_forever)
        serving.start()
        yield f"127.0.0.1:{listener.server_address[1]}"
        listener.shutdown()
        serving.join()


def test_what_is_wrong_is_one_line_without_the_password(made: Crew, refusing: str) -> None:
    for url, reason in (
        (f"redis://:wrong@{refusing}/0", "Redis does not tell RedBeat's entries"),
        ("redis://:secret@127.0.0.1:1/0", "Redis does not tell RedBeat's entries"),
        ("rediss:nonsense:secret", "no URL of Redis"),
    ):
        failed = celery_kafka(made, "import-redbeat", url)
        assert failed.returncode != 0
        assert reason in failed.stderr
        assert len(failed.stderr.strip().splitlines()) == 1
        assert "secret" not in failed.stderr
        assert "wrong" not in failed.stderr.replace("wrong number", "")
    plain = celery_kafka(made, "import-django-beat")
    assert plain.returncode != 0
    assert "there is no django_celery_beat in this application's Django project" in plain.stderr
