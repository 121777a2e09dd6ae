"""A Django project: its settings, tasks sent when a transaction ends, results in its database, and both its beats."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.dead_tools import Morgue
from tests.integration.workers import PATIENCE, ROOT, Beat, Crew, Worker, crew, environment, until

PROJECT = ROOT / "tests" / "django_project"
PAGE = ROOT / "docs" / "django.md"


class ShopWorker(Worker):
    """``celery -A shop worker``"""

    app = "shop"
    root = PROJECT


class ShopBeat(Beat):
    """``celery -A shop beat -S kafka-exec``"""

    app = "shop"
    root = PROJECT


class DatabaseBeat(ShopBeat):
    """``celery -A shop beat -S django``, which looks into the database once a second."""

    def command(self) -> list[str]:
        return ["beat", "-S", "django", "--pidfile", "", "--max-interval", "1"]


class Shop:
    """The project with a database of its own, and its worker.

    Attributes:
        bought: what the project's command ``buy`` has told.
    """

    def __init__(self, made: Crew) -> None:
        self.made = made
        self.database = made.folder / "shop.sqlite3"
        self.env = {"SHOP_DATABASE": str(self.database), "DJANGO_SETTINGS_MODULE": "shop.settings"}
        self.manage("migrate", "-v0")
        worker = made.start("web", "-c", "1", env=self.env, kind=ShopWorker)
        self.bought: dict[str, Any] = json.loads(self.manage("buy"))
        worker.wait_for_line(" ready.")

    def manage(self, *arguments: str) -> str:
        """Runs ``manage.py …`` to its end; its output."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=environment(self.made.url, self.made.folder, **self.env),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Asks the database."""
        with sqlite3.connect(self.database, timeout=30) as connection:
            return connection.execute(query, values).fetchall()

    def notes(self) -> list[str]:
        """The notes of the tasks, in the order in which they wrote them."""
        return [text for (text,) in self.rows("SELECT text FROM orders_note ORDER BY id")]

    def result(self, order: str) -> tuple[Any, ...]:
        """The state, result and name that the database has of an order's task, when it has ended."""
        query = (
            "SELECT status, result, task_name FROM django_celery_results_taskresult "
            "WHERE task_id = ? AND status IN ('SUCCESS', 'FAILURE')"
        )
        (found,) = until(lambda: self.rows(query, self.bought[order]["task"]), what=f"the end of {order}'s task")
        return tuple(found)


@pytest.fixture(scope="module")
def shop(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with crew(kafka, tmp_path_factory.mktemp("django")) as made:
        yield Shop(made)


def test_a_task_is_sent_when_its_transaction_ends_and_only_then(shop: Shop) -> None:
    assert shop.bought["sent_when_rolled_back"] == 0
    assert shop.bought["sent_within_a_transaction"] == 0
    assert shop.bought["sent"] == 2


def test_a_task_with_a_policy_is_retried_and_its_result_is_in_the_database(shop: Shop) -> None:
    assert shop.result("alice") == ("SUCCESS", "2", "orders.tasks.charge")
    order = shop.bought["alice"]["order"]
    assert [note for note in shop.notes() if note.startswith(f"charge {order} ")] == [
        f"charge {order} attempt 1",
        f"charge {order} attempt 2",
    ]
    assert shop.rows("SELECT charged FROM orders_order WHERE id = ?", order) == [(1,)]


def test_a_task_without_tries_left_has_failed_and_is_a_dead_letter(shop: Shop) -> None:
    state, result, _ = shop.result("nobody")
    assert (state, json.loads(result)["exc_type"]) == ("FAILURE", "Busy")
    until(lambda: shop.made.backlog() == 0, what="an empty queue")
    letters = Morgue(shop.made).all()
    assert [(letter.id, letter.task) for letter in letters] == [(shop.bought["nobody"]["task"], "orders.tasks.charge")]
    assert "attempt 4" in letters[0].error


def test_other_nodes_know_the_versions_of_its_tasks(shop: Shop) -> None:
    nodes = [json.loads(line) for line in shop.made.command("kafka", "nodes", "--json").splitlines()]
    (worker,) = (node for node in nodes if node["name"] == "web@test")
    assert {"orders.tasks.charge", "orders.tasks.charge@1", "orders.tasks.charge@2"} <= set(worker["tasks"])


def test_a_beat_fires_what_the_settings_say_and_one_what_the_database_says(shop: Shop) -> None:
    ours = shop.made.start("beat", env=shop.env, kind=ShopBeat)
    until(lambda: "stock by settings" in shop.notes(), what="an entry of the settings")
    ours.stop()
    assert "stock by admin" not in shop.notes()
    shop.manage("count_every_second")
    django = shop.made.start("database-beat", env=shop.env, kind=DatabaseBeat)
    until(lambda: "stock by admin" in shop.notes(), what="an entry of the database")
    django.stop()


ENTRIES = """
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

often = IntervalSchedule.objects.create(every=90, period="minutes")
here = CrontabSchedule.objects.create(minute="0", hour="4", day_of_week="mon", timezone="America/Chicago")
there = CrontabSchedule.objects.create(minute="0", hour="4", timezone="Asia/Tokyo")
task = "orders.tasks.count_stock"
PeriodicTask.objects.create(name="often", task=task, interval=often, args='["shelf"]', queue="stock", priority=3)
PeriodicTask.objects.create(name="at night", task=task, crontab=here, enabled=False)
PeriodicTask.objects.create(name="abroad", task=task, crontab=there)
"""


def test_entries_of_the_database_become_ours(shop: Shop) -> None:
    def celery(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", "shop", "kafka", *arguments],
            cwd=PROJECT,
            env=environment(shop.made.url, shop.made.folder, **shop.env),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    shop.manage("shell", "-c", ENTRIES)
    added = celery("import-django-beat", "--yes")
    assert added.returncode == 0, added.stderr
    assert (
        "left out abroad: its crontab is in the time zone Asia/Tokyo, the application in America/Chicago"
        in added.stderr
    )
    listed = celery("schedule", "list", "--json").stdout.splitlines()
    found = {each["name"]: each for each in map(json.loads, listed)}
    assert (found["often"]["schedule"], found["often"]["task"]) == ("every 5400 s", "orders.tasks.count_stock")
    assert (found["at night"]["schedule"], found["at night"]["state"]) == ("crontab 0 4 * * mon", "paused")
    assert "abroad" not in found
    shown = json.loads(celery("schedule", "show", "often", "--json").stdout)
    assert shown["given"]["options"] == {"queue": "stock", "priority": 3}
    assert shown["given"]["args"] == ["shelf"]


def snippets() -> list[tuple[str, str]]:
    """The page's Python: which file of the project it is of, and the lines."""
    return re.findall(r"```python\n# ([\w/]+\.py)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def test_the_page_shows_what_is_run_here() -> None:
    found = snippets()
    assert {file for file, _ in found} == {"shop/settings.py", "shop/celery.py", "orders/tasks.py", "orders/views.py"}
    for file, lines in found:
        assert lines in (PROJECT / file).read_text(encoding="utf-8"), file
    page = PAGE.read_text(encoding="utf-8")
    for kind in (ShopWorker, ShopBeat, DatabaseBeat):
        command = (kind.__doc__ or "").split("``")[1]
        assert re.search(f"^{re.escape(command)}( |$)", page, re.M), command
