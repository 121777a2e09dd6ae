"""`inspect query_task`: a task is found by its id wherever it waits, in Celery's own shape."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import Crew, crew, until

HOUR = 3600.0

#: Of eight in a lane the last ones are not held in memory.
LARGE = "x" * 110_000


def query(made: Crew, *ids: object) -> dict[str, dict[str, Any]]:
    """The answers of the workers, by node: workers that know none of the tasks are left out."""
    answers = made.app.control.inspect(timeout=10, limit=2).query_task([*ids]) or {}
    return {node: found for node, found in answers.items() if found}


def test_a_task_is_found_wherever_it_waits(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, kafka_exec_partitions={"queue": 1}, worker_prefetch_multiplier=2) as made:
        one = made.start("one", "-c", "1", "-Q", "celery", env={"WITHOUT_TASKS": "picky"})
        other = made.start("other", "-c", "1", "-Q", "mail")
        made.ready(one, other, queue=None)
        gate, far = made.gate(), made.gate()
        [runs] = made.send("hold", str(gate))
        [elsewhere] = made.send("hold", str(far), queue="mail")
        made.effects.wait_for([runs, elsewhere], "begin")
        [unknown] = made.send("picky", "please")
        one.wait_for_line("is not known here")
        # The first is delivered, the next ones are beyond the prefetch count.
        slot, *buffered = made.send("work", number=5)
        # What runs holds the key only when it has been delivered.
        keyed = made.send("echo", LARGE, number=8, ordering_key="k")
        scheduled = [*made.send("work", countdown=HOUR), *made.send("work", countdown=20 * HOUR, queue="mail")]
        expected = {
            **dict.fromkeys([unknown, slot, *buffered, *keyed], "reserved"),
            **dict.fromkeys(scheduled, "scheduled"),
            **dict.fromkeys([runs, elsewhere], "active"),
        }

        def stages() -> dict[str, str]:
            return {task: stage for found in query(made, *expected).values() for task, (stage, _) in found.items()}

        until(lambda: stages() == expected, what=str(expected))
        answers = query(made, *expected, uuid.uuid4(), "nobody")
        assert answers.keys() == {"one@test", "other@test"}
        assert answers["other@test"].keys() - set(scheduled) == {elsewhere}
        facts = {task: info for found in answers.values() for task, (_, info) in found.items()}
        names = {"hold": [runs, elsewhere], "picky": [unknown], "echo": keyed, "work": [slot, *buffered, *scheduled]}
        assert {task: info["name"] for task, info in facts.items()} == {
            task: name for name, tasks in names.items() for task in tasks
        }
        assert {task: info["id"] for task, info in facts.items()} == {task: task for task in expected}
        assert facts[keyed[-1]]["args"] == [LARGE]
        assert facts[unknown]["args"] == ["please"]
        assert facts[scheduled[1]]["delivery_info"]["routing_key"] == "mail"
        assert "active" in made.command("inspect", "query_task", runs)
        assert query(made, "nobody") == {}
        stats = made.app.control.inspect(timeout=10, limit=2).stats()
        for told in stats.values():
            assert told["kafka_exec"]["versions"]["kafka_exec"] == kafka_exec.__version__
            assert told["kafka_exec"]["settings"]["partitions"]["queue"] == 1
        gate.touch()
        far.touch()
        made.effects.wait_for([runs, elsewhere, slot, *buffered])
