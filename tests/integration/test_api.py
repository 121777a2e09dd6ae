"""The HTTP API: what a client does with it, over a real Kafka and a real worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.api_tools import Site, serving
from tests.integration.workers import Crew, crew, until


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(kafka, tmp_path_factory.mktemp("api"), backend="same") as found:
        found.ready(found.start("one", "-c", "2", "-P", "threads"))
        yield found


@pytest.fixture(scope="module")
def site(made: Crew) -> Iterator[Site]:
    with serving(made.app) as found:
        yield found


def printed(made: Crew, *command: str) -> list[Any]:
    """The objects that a command prints."""
    return [json.loads(line) for line in made.command("kafka", *command, "--json").splitlines()]


def wait_for(site: Site, task_id: str, state: str) -> dict[str, Any]:
    """The task as soon as it has a state."""

    def found() -> Any:
        told = site.get(f"/executions/{task_id}")
        return told["state"] == state and told

    task: dict[str, Any] = until(found, what=f"{task_id} as {state}")
    return task


def test_a_task_is_sent_runs_and_is_found_with_all_that_has_happened(made: Crew, site: Site) -> None:
    sent = site.post("/executions", {"name": "add", "args": [2], "kwargs": {"y": 3}, "ordering_key": "customer/7"}, 201)
    found = wait_for(site, sent["id"], "DONE")
    assert found.items() >= {"name": "add", "result": 5, "worker": "one@test", "ordering_key": "customer/7"}.items()
    assert printed(made, "show", sent["id"]) == [found]
    events = site.get(f"/executions/{sent['id']}/history")["items"]
    assert [each["what"] for each in events][:1] == ["sent"]
    assert printed(made, "history", sent["id"]) == events
