"""A Flask project as its documentation has it: tasks with the application's context, and all that ours adds."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.dead_tools import Morgue
from tests.integration.workers import PATIENCE, ROOT, Crew, Worker, crew, environment, until

PROJECT = ROOT / "tests" / "flask_project"


class ShopWorker(Worker):
    """``celery -A make_celery worker``"""

    app = "make_celery"
    root = PROJECT


class Shop:
    """The project with a database of its own, and its worker.

    Attributes:
        bought: what became of the orders of two customers.
    """

    def __init__(self, made: Crew) -> None:
        self.made = made
        self.database = made.folder / "shop.sqlite3"
        env = {"SHOP_DATABASE": str(self.database)}
        made.start("web", "-c", "1", env=env, kind=ShopWorker)
        done = subprocess.run(
            [sys.executable, "visit.py", "alice", "nobody"],
            cwd=PROJECT,
            env=environment(made.url, made.folder, **env),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        self.bought: list[dict[str, Any]] = json.loads(done.stdout)

    def attempts(self, order: int) -> str:
        """The attempts that the database has of an order."""
        with sqlite3.connect(self.database, timeout=30) as connection:
            ((charged,),) = connection.execute("SELECT charged FROM orders WHERE id = ?", (order,))
        return str(charged)


@pytest.fixture(scope="module")
def shop(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with crew(kafka, tmp_path_factory.mktemp("flask"), backend="same") as made:
        yield Shop(made)


def test_a_task_has_the_applications_context_and_is_retried(shop: Shop) -> None:
    alice = shop.bought[0]
    assert (alice["ready"], alice["state"]) == (True, "SUCCESS")
    assert alice["value"] == {"order": alice["order"], "application": "shop", "attempt": 2}
    assert shop.attempts(alice["order"]) == "1 2"


def test_a_task_without_tries_left_has_failed_and_is_a_dead_letter(shop: Shop) -> None:
    nobody = shop.bought[1]
    assert (nobody["state"], nobody["value"]) == ("FAILURE", "Busy('attempt 3')")
    assert shop.attempts(nobody["order"]) == "1 2 3"
    until(lambda: shop.made.backlog() == 0, what="an empty queue")
    assert [letter.id for letter in Morgue(shop.made).all()] == [nobody["task"]]
    record = json.loads(shop.made.command("kafka", "show", nobody["task"], "--json"))
    assert (record["state"], record["attempts"]) == ("FAILED", 3)


def test_other_nodes_know_the_versions_of_its_tasks(shop: Shop) -> None:
    (worker,) = (json.loads(line) for line in shop.made.command("kafka", "nodes", "--json").splitlines())
    assert {"shop.tasks.charge", "shop.tasks.charge@a", "shop.tasks.charge@b"} <= set(worker["tasks"])
