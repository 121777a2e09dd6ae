"""Tests of workers and publishers whose broker's URL was given in one of the ways of broker_ways."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kafka_exec.broker import EmbeddedKafka
from tests.integration.broker_ways import WAYS
from tests.integration.workers import ROOT, Worker, crew, environment

APP = "tests.integration.broker_ways:app"


class WayWorker(Worker):
    """A worker that has its broker's URL in the way that its environment names."""

    app = APP

    def __init__(self, name: str, url: str, folder: Path, options: Any, env: Any, conf: Any) -> None:
        self._arguments = WAYS[env["WAY"]].arguments(url)
        super().__init__(name, "", folder, options, env, conf)

    def command(self) -> list[str]:
        return [*self._arguments, *super().command()]


def check_way(way: str, kafka: EmbeddedKafka, folder: Path) -> None:
    """Two running tasks run again after ``kill -9``; delays, keys and heartbeats are on."""
    with crew(kafka, folder) as made:
        env = {"WAY": way, "WAY_URL": made.url, **WAYS[way].environment(made.url)}
        in_process = {**environment("", folder), **env}
        gate = made.gate()

        def command(*arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", *arguments], cwd=ROOT, env=in_process, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        one = made.start("one", "-c", "2", env=env, kind=WayWorker)
        made.ready(one)
        if given := WAYS[way].arguments(made.url):
            in_process["CELERY_BROKER_URL"] = given[-1]
        sent = time.time()
        *held, delayed, first, second, third = command("tests.integration.broker_ways", str(gate)).split()
        made.effects.wait_for(held, "begin")
        assert "one@test" in command("celery", "-A", APP, *WAYS[way].arguments(made.url), "kafka", "nodes")
        one.kill()
        made.start("one", "-c", "2", env=env, kind=WayWorker).wait_for_line(" ready.")
        gate.touch()
        made.effects.wait_for([*held, delayed, first, second, third])
        begun = made.effects.all("begin")
        count = made.effects.count("begin")
        assert {task: count[task] for task in held} == dict.fromkeys(held, 2)
        in_order = [each.task for each in made.effects.all() if each.task in (first, second, third)]
        assert in_order == [first, second, third]
        assert min(each.time for each in begun if each.task == delayed) >= sent + 2.5
        assert (
            made.kafka.admin().list_topics(f"{made.prefix}.delay", timeout=10).topics[f"{made.prefix}.delay"].error
            is None
        )
