"""The HTTP API under requests that Schemathesis makes of its OpenAPI file, over a real Kafka and a real worker.

No request may end in a status that the file does not name, an answer that does not fit its schema, or an error of the API
itself; what does not fit the file must be refused, and so must be whoever has no token.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from kafka_exec.api.openapi import BASE, document
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.operations import keys
from tests.integration.api_tools import Site, serving
from tests.integration.workers import crew, until

TOKEN = "anna-anna-anna-anna"

#: Examples of each operation, of requests that fit the file and of those that do not.
EXAMPLES = {GenerationMode.POSITIVE: 3, GenerationMode.NEGATIVE: 2}

#: Values of parameters that lead further than any text does. The tasks, letters and entries exist, but for the last ones.
LIKELY: dict[str, list[Any]] = {
    "id": ["done", "suspended", "dead", "nobody/\x00"],
    "correlation_id": ["approve", "soon"],
    "queue": ["celery", "n/one"],
    "address": ["0:0", "1:0", "99999:99999999999999999999"],
    "key": ["k/1"],
    "name": ["add", "every/5", "nobody"],
    "task": ["add"],
    "eta": ["2060-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"],
    "schedule": ["5", 0.5, "0 4 * * mon", "never"],
    "scheduleExpression": ["every 5 m", "never"],
    "state": ["DONE,FAILED", "fine"],
    "since": ["1 h", "soon"],
    "until": ["1 h", "9999-12-31"],
    "where": ["attempts > 0", "(((", 'args[0] == 1 and not key ~ "x"'],
    "timeout": [0, 1],
    "to_queue": ["celery", "nobody"],
}


def likely() -> dict[str, Any]:
    """The OpenAPI file with these values in the place of all that it allows."""
    file = document()
    for told in (each for methods in file["paths"].values() for each in methods.values()):
        for parameter in told["parameters"]:
            parameter["schema"] = _likely(parameter["name"], parameter["schema"])
        if "requestBody" in told:
            content = told["requestBody"]["content"]["application/json"]
            properties = content["schema"]["properties"].items()
            content["schema"] |= {"properties": {name: _likely(name, schema) for name, schema in properties}}
    return file


def _likely(name: str, schema: Any) -> Any:
    return {"enum": LIKELY[name]} if name in LIKELY else schema


def prepare(site: Site, app: Any) -> None:
    """Makes the tasks and entries that requests name."""
    for task_id, name, args in (
        ("done", "add", (1, 2)),
        ("suspended", "wait", ("approve",)),
        ("dead", "picky", ("no",)),
    ):
        app.tasks[name].apply_async(args, task_id=task_id)
    site.post("/periodic", {"name": "every/5", "task": "add", "schedule": 5}, 201)
    until(lambda: site.get("/suspended")["items"], what="the suspended task")
    until(lambda: site.get("/dead")["items"], what="the dead letter")


def test_no_request_ends_in_anything_that_the_file_does_not_say(
    kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_TIMEOUT", 0.05)  # the workers' answers are not what is tested here
    load_all_checks()
    # Not every text is an expression or a schedule, which a schema cannot say.
    left_out = [CHECKS.get_one("positive_data_acceptance")]
    known = {"Authorization": f"Bearer {TOKEN}"}
    statuses = Counter[tuple[str, int]]()
    with crew(kafka, tmp_path, backend="same", kafka_exec_api_tokens=[f"anna:{TOKEN}"]) as made:
        made.ready(made.start("one", "-c", "2", "-P", "threads"))
        with serving(made.app, token=TOKEN) as site:
            prepare(site, made.app)

            def fuzz(operation: Any, mode: GenerationMode) -> None:
                @settings(
                    max_examples=EXAMPLES[mode],
                    deadline=None,
                    derandomize=True,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def ask(case: Any) -> None:
                    answer = case.call(base_url=site.address, headers=known)
                    statuses[f"{operation.method} {operation.path}", answer.status_code] += 1
                    case.validate_response(answer, headers=known, excluded_checks=left_out)

                ask()

            for mode, file in ((GenerationMode.POSITIVE, likely()), (GenerationMode.NEGATIVE, document())):
                operations = [found.ok() for found in schemathesis.openapi.from_dict(file).get_all_operations()]
                for operation in sorted(operations, key=lambda each: each.method == "delete"):
                    if operation.path.startswith(BASE):
                        fuzz(operation, mode)
    reached = {operation for operation, status in statuses if status < 300}
    assert len(reached) >= 20, sorted(map(str, statuses.items()))
