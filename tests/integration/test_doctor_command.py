"""``celery kafka doctor`` finds nothing in a healthy cluster, and each planted fault."""

from __future__ import annotations

import json
from pathlib import Path

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from kafka_exec.beat import PeriodicTasks
from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import PATIENCE, Crew, crew, until


def findings(made: Crew, *severities: str) -> dict[str, str]:
    """The severity of each finding, by its text, of those with some severities."""
    done = made.run("kafka", "doctor", "--json")
    found = {each["text"]: each["severity"] for each in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == (3 if "wrong" in found.values() else 0), done.stderr
    return {text: severity for text, severity in found.items() if severity in severities}


def test_it_finds_what_is_planted_and_nothing_before(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, backend="same") as made:
        worker = made.start("one", "-c", "1", "-P", "solo")
        made.ready(worker)
        made.effects.wait_for(made.send("work"))
        assert findings(made, "wrong", "warning") == {}
        admin = kafka.admin()
        topics = admin.list_topics(timeout=PATIENCE).topics
        assert [name for name in topics if name.startswith(f"{made.prefix}.doctor")] == []
        assert f"{made.prefix}.schedule" not in topics, "doctor makes no topic that stays"

        PeriodicTasks(made.app).add("hourly", "work", 3600)
        made.conf.update(
            task_acks_late=False, broker_transport_options={"visibility_timeout": 3600}, kafka_exec_max_deliveries=77
        )
        worker.stop()
        made.ready(made.start("two", "-c", "1", "-P", "solo", kafka_exec_control_plane=False), queue=None)
        # A worker does not begin with a queue that is set up wrongly, so that is planted now.
        retention = ConfigEntry("retention.ms", "60000", incremental_operation=AlterConfigOpType.SET)
        queue = ConfigResource(ResourceType.TOPIC, f"{made.prefix}.queue.celery", incremental_configs=[retention])
        [changed] = admin.incremental_alter_configs([queue]).values()
        changed.result(PATIENCE)
        wrong = until(lambda: len(found := findings(made, "wrong")) == 3 and found, what="the node that has left")
        assert sorted(text.partition(f"topic {made.prefix}.")[2] or text for text in wrong) == [
            "1 periodic entries are due, and no beat is alive",
            "no node drives chords and suspensions: their bodies do not come",
            "queue.celery: retention.ms is 60000: set it to -1 with kafka-configs --alter",
        ]
        warnings = sorted(findings(made, "warning"))
        assert [text.partition(":")[0] for text in warnings] == [
            'broker_transport_options["visibility_timeout"]',
            "task_acks_late=False",
        ]
        assert "max_deliveries is 77, from the configuration or the URL" in findings(made, "ok")
