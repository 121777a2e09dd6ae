"""`celery kafka topics`, `top` and `suspended`: what stands in Kafka, without any worker too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from kafka_exec.app.pausing import pause_queue
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.overview.rates import TaskRates
from kafka_exec.operations.keys import keys, unblock
from kafka_exec.operations.queues import rates, status
from kafka_exec.operations.tasks import reason
from kafka_exec.settings.appconf import broker_home
from tests.integration.suspensions import suspended
from tests.integration.workers import PATIENCE, Crew, crew, until


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, "same") as found:
        yield found


def told(made: Crew, *words: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in made.command("kafka", *words, "--json").splitlines()]
    assert all(each.pop("schema") == 1 for each in found)
    return found


def test_topics_tells_what_each_is_for_how_much_is_in_it_and_what_was_changed(made: Crew) -> None:
    assert made.command("kafka", "topics") == f"no topics with the prefix {made.prefix}\n"
    made.send("work", number=5)
    queue = f"{made.prefix}.queue.celery"
    retention = ConfigEntry("retention.ms", "60000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, queue, incremental_configs=[retention])
    admin = made.kafka.admin()
    [changed] = admin.incremental_alter_configs([resource]).values()
    changed.result(PATIENCE)
    found = {each["topic"]: each for each in told(made, "topics")}
    assert found[queue] == {
        "topic": queue,
        "purpose": "messages of queue celery",
        "partitions": 8,
        "replicas": 1,
        "cleanup": "delete",
        "retention": 60.0,
        "records": 5,
        "deviations": ["retention.ms is 60000: set it to -1 with kafka-configs --alter"],
    }
    assert [each["topic"] for each in found.values() if each["deviations"]] == [queue]
    heading, *rows, total = made.command("kafka", "topics").splitlines()
    assert heading.split() == ["TOPIC", "PURPOSE", "PARTITIONS", "REPLICAS", "KEPT", "RECORDS", "DEVIATES"]
    assert [row.split()[0] for row in rows] == sorted(found)
    number = sum(each["partitions"] for each in found.values())
    assert total == f"{len(found)} topics with {number} partitions"


def test_top_counts_what_came_began_and_ended_by_queue_and_task(made: Crew) -> None:
    assert made.command("kafka", "top") == f"no queues with the prefix {made.prefix}\n"
    ids = [*made.send("work", number=4), *made.send("stumble", 1)]
    made.send("work", number=3, queue="idle")
    sent = time.time()
    worker = made.start("one", "-c", "1")
    made.effects.wait_for(ids)
    until(lambda: made.backlog() == 0, what="the commits of all ends")
    worker.stop()
    found = {(each["queue"], each["task"]): each for each in told(made, "top", "--seconds", "3600")}
    numbers = {name: [each["sent"], each["begun"], each["ended"]] for name, each in found.items()}
    assert numbers == {
        ("celery", None): [6, 6, 6],
        ("celery", "work"): [4, 4, 4],
        ("celery", "stumble"): [2, 2, 2],  # with its retry
        ("idle", None): [3, 0, 0],
        ("idle", "work"): [3, 0, 0],
    }
    assert found["celery", "work"]["wait"] > 0
    assert found["idle", "work"]["wait"] is None
    # Names of tasks that were sent before the time are looked for.
    later = rates(broker_home(made.app), ("celery",), sent)
    assert {name: (each.sent, each.begun, each.ended) for name, each in later["celery"].items()} == {
        "work": (0, 4, 4),
        "stumble": (1, 2, 2),
    }
    assert rates(broker_home(made.app), ("idle",), sent) == {"idle": {}}
    printed = made.command("kafka", "top", "idle", "--seconds", "3600").splitlines()
    assert [line.split() for line in printed] == [
        ["QUEUE", "TASK", "IN/S", "BEGUN/S", "OUT/S", "WAIT"],
        ["idle", "0.0", "0.0", "0.0"],
        ["work", "0.0", "0.0", "0.0"],
    ]
    assert "there is no queue 'nobody'" in made.run("kafka", "top", "nobody").stderr
    assert sum(later["celery"].values(), TaskRates()).ended == 6


def test_what_is_asked_of_all_queues_asks_for_all_topics_at_once(made: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        made.send("work", queue=f"queue-{number}")
    space = broker_home(made.app)
    asked = list[str | None]()
    ask = space.cluster.topics._ask

    def noted(topic: str | None, timeout: float) -> Any:
        found = ask(topic, timeout)
        asked.append(topic)  # an error that passes is asked again
        return found

    monkeypatch.setattr(space.cluster.topics, "_ask", noted)
    assert len(status(made.app, time.time())["queues"]) == 5
    assert asked == [None, space.topics.nodes]
    asked.clear()
    reason(made.app, "nobody", time.time())
    assert asked == 2 * [None, space.topics.nodes]  # it looks twice for a task that is nowhere
    asked.clear()
    pause_queue(made.app, "queue-1", by="me")
    assert asked[0] == space.topics.queue("queue-1")
    assert None not in asked


def test_keys_are_asked_of_the_workers_that_live_and_waited_for_no_longer(
    made: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_exec.operations.keys._TIMEOUT", 10 * PATIENCE)  # longer than a test may take
    assert keys(made.app) == []
    workers = [made.start(name, "-c", "1") for name in ("one", "two")]
    made.ready(*workers)
    failed, waits = made.send("break_lane", ordering_key="k"), made.send("work", ordering_key="k")
    (found,) = until(lambda: [each for each in keys(made.app, blocked=True) if each["state"] == "stopped"])
    assert (found["key"], found["waiting"]) == ("k", 1)
    made.effects.wait_for(failed, "begin")
    (done,) = unblock(made.app, "k")
    assert done.startswith("celery (")
    made.effects.wait_for(waits)
    for worker in workers:
        worker.stop()
    assert keys(made.app) == []


def test_suspended_lists_who_waits_for_what(made: Crew) -> None:
    made.ready(made.start("one", "-c", "1"))
    assert made.command("kafka", "suspended") == "no task is suspended\n"
    result = made.app.tasks["wait"].delay("approve/7")
    suspended(result)
    (found,) = told(made, "suspended")
    assert {name: found[name] for name in ("correlation_id", "task", "got", "expected")} == {
        "correlation_id": "approve/7",
        "task": result.id,
        "got": 0,
        "expected": 1,
    }
    heading, row = made.command("kafka", "suspended").splitlines()
    assert heading.split() == ["CORRELATION", "TASK", "AGE", "CALLBACKS", "DEADLINE"]
    assert row.split()[:2] == ["approve/7", result.id]
    assert "0 of 1" in row
    made.command("kafka", "resume", "approve/7", '"yes"')
    assert result.get(timeout=PATIENCE) == "yes"
    until(lambda: told(made, "suspended") == [], what="the end of the suspension")


def test_a_plan_is_made_of_what_the_log_of_a_queue_has(made: Crew) -> None:
    nobody = made.run("kafka", "plan", "celery")
    assert "there is no queue 'celery'" in nobody.stderr
    begin = time.time()
    # The ten minutes before, and all that is sent in the same one of the minutes that are counted.
    since = datetime.fromtimestamp(begin - 545).isoformat()
    ids = made.send("work", 0.5, number=6)
    keyed = [made.send("work", queue="keyed", ordering_key=key)[0] for key in ("a", "a", "b")]
    refused = made.run("kafka", "plan", "celery")
    assert (refused.returncode, "no task of celery has ended in that time" in refused.stderr) == (1, True)
    worker = made.start("one", "-c", "3", "-Q", "celery,keyed")
    made.effects.wait_for([*ids, *keyed])
    until(lambda: made.backlog() == 0, what="the commits of all ends")
    (found,) = told(made, "plan", "celery", "--from", since)
    seconds = time.time() - begin + 545
    figures = {name: each["value"] for name, each in found["figures"].items()}
    running = found["figures"]["running"]
    assert running["reason"].startswith("0.1 tasks/s of "), running  # six in the busiest minute
    assert running["value"] >= 0.05
    assert (figures["workers"], found["figures"]["workers"]["reason"]) == (2, "one may be away")
    assert {name: each["now"] for name, each in found["figures"].items() if each["now"] is not None} == {
        "running": 0,
        "slots": 3,
        "workers": 1,
        "partitions": 8,
    }
    # Of six tasks in this time, and in all the days that they are kept.
    kept = 3 * 6 / seconds * 86400
    assert 500 < figures["disk_messages"] / (7 * kept) < 1500
    assert 200 < figures["disk_states"] / kept < 1500
    assert (found["queue"], found["obstacles"]) == ("celery", [])
    # What is given wins; two keys do not run so many.
    bound = made.run("kafka", "plan", "keyed", "--rate", "100/s", "--run", "1s")
    heading, *_, obstacle = bound.stdout.splitlines()
    assert heading.split() == ["FIGURE", "PLAN", "NOW", "FOLLOWS", "FROM"]
    assert obstacle.startswith("not possible: 2 ordering keys run 2 tasks at once, that is 2 a second, and 100 come")
    assert bound.returncode == 3
    worker.stop()
