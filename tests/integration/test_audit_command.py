"""`celery kafka audit`: it finds nothing after kills, and what is planted into the logs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.queue.transitions import STARTED, Transition, encode
from kafka_exec.operations.queues import reports
from kafka_exec.settings.appconf import broker_home
from tests.integration.kills import CONF
from tests.integration.workers import Crew, crew, until


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, **CONF) as found:
        yield found


def audited(made: Crew, status: int) -> list[dict[str, Any]]:
    """What the audit of each partition says; ``status``: how the command must end."""
    done = made.run("kafka", "audit", "--json")
    assert (done.returncode, done.stderr) == (status, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def running(made: Crew) -> int:
    """The tasks that run, as Kafka has it."""
    (found,) = reports(broker_home(made.app), ("celery",), time.time())
    return found.counts.running


def total(found: list[dict[str, Any]], name: str) -> int:
    return sum(each[name] for each in found)


def test_after_kills_nothing_is_lost_or_out_of_order_and_what_is_planted_is_found(made: Crew) -> None:
    first = made.start("first", "-c", "2")
    made.ready(first)
    gate = made.gate()
    held = made.send("hold", str(gate), number=2)
    made.effects.wait_for(held, "begin")
    sent = [*made.send("work", 0.02, number=60, ordering_key="k"), *made.send("work", 0.02, number=60)]
    # Else a begin of theirs may not be told when their worker is killed, and the next one counts as the first.
    until(lambda: running(made) == 2, what="the begins of the held tasks in Kafka")
    first.kill()
    made.start("second", "-c", "4")
    gate.touch()
    made.effects.wait_for([*sent, *held])
    until(lambda: made.backlog() == 0, what="the commits of all ends")
    found = audited(made, 0)
    assert (total(found, "sent"), total(found, "ended"), total(found, "waiting")) == (122, 122, 0)
    assert total(found, "repeated") >= 2
    assert [each["findings"] for each in found if each["findings"]] == []

    hurt = next(each for each in found if each["sent"])
    producer = Producer({"bootstrap.servers": made.kafka.bootstrap_servers})
    identity = broker_home(made.app).cluster.topics.identity(hurt["topic"])
    late = encode("nobody", identity, [Transition(STARTED, 0, 9)])
    producer.produce(f"{made.prefix}.journal.celery", late, partition=hurt["partition"])
    assert producer.flush(30) == 0
    (again,) = [each for each in audited(made, 3) if each["findings"]]
    (finding,) = again["findings"]
    assert (again["partition"], finding["breach"], finding["offset"]) == (hurt["partition"], "begun after its end", 0)
    assert finding["by"] == "nobody"
    printed = made.run("kafka", "audit", "--from", "2h")
    assert (printed.returncode, "begun after its end" in printed.stdout) == (3, True)
    empty = made.run("kafka", "audit", "--to", "1 h")
    assert (empty.returncode, empty.stdout.splitlines()[-1].split()[:2]) == (0, ["celery", "0"])
