"""A FastAPI project: tasks are sent and continued from its requests, and the API of tasks is mounted in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.flower_tools import Visitor
from tests.integration.test_flask import ShopWorker as FlaskWorker
from tests.integration.workers import PATIENCE, ROOT, Crew, Worker, crew, environment, until
from tests.snippets import programs

PROJECT = ROOT / "tests" / "fastapi_project"
SERVE = "uvicorn shop.web:web"


class ShopWorker(Worker):
    """``celery -A shop.tasks worker``"""

    app = "shop.tasks"
    root = PROJECT


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(kafka, tmp_path_factory.mktemp("fastapi"), backend="same") as found:
        yield found


@pytest.fixture(scope="module")
def shop(made: Crew) -> Iterator[Visitor]:
    """The served project, with a worker."""
    made.start("web", "-c", "1", kind=ShopWorker)
    log = made.folder / "uvicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *SERVE.split(), "--port", "0"],
            cwd=PROJECT,
            env=environment(made.url, made.folder, PYTHONPATH=os.pathsep.join(map(str, (PROJECT, ROOT)))),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        found = until(lambda: re.search(r"running on (http://\S+)", log.read_text()), what="the project's address")
        yield Visitor(found[1])
    finally:
        process.kill()
        process.wait(PATIENCE)


def result(shop: Visitor, task_id: str) -> object:
    """What a task has come to, once it has ended."""
    return until(lambda: shop.ask(f"/tasks/{task_id}").json()["result"], what="the end of a task")


def test_a_request_sends_a_task_and_another_one_tells_its_result(shop: Visitor) -> None:
    sent = shop.ask("/payments", "POST", params={"customer": "ann", "amount": 7})
    assert sent.status_code == 202
    assert result(shop, sent.json()["task"]) == "ann has paid 7"


def test_a_request_continues_a_task_that_waits(shop: Visitor) -> None:
    sent = shop.ask("/orders", "POST", params={"number": 17}).json()["task"]
    approval = shop.ask("/orders/17/approval", "POST", params={"by": "bob"})
    assert approval.json()["outcome"] in ("continued", "kept")
    assert result(shop, sent) == "order 17 is approved by bob"
    again = shop.ask("/orders/17/approval", "POST", params={"by": "bob"})
    assert (again.status_code, again.json()) == (409, {"detail": "already"})


def test_the_api_of_tasks_is_mounted_and_reads_only(shop: Visitor) -> None:
    assert shop.ask("/kafka/api/kafka/status").json()["queues"]
    assert shop.ask("/kafka/api/kafka/executions", "POST", json={"name": "shop.tasks.charge"}).status_code == 403


def test_the_page_shows_what_is_run_here() -> None:
    page = (ROOT / "docs" / "flask-and-fastapi.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n# ([\w/]+\.py)\n(.*?)```", page, re.S)
    assert len(found) == len(programs(page))
    for file, lines in found:
        assert lines in (ROOT / "tests" / file).read_text(encoding="utf-8"), file
    for command in (str(ShopWorker.__doc__).strip("`"), str(FlaskWorker.__doc__).strip("`"), SERVE):
        assert re.search(f"^{re.escape(command)}$", page, re.M), command
