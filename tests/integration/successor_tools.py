"""The journal's knowledge of the tasks that :mod:`tests.integration.successor_tasks` names."""

from __future__ import annotations

import json
from collections import Counter

from confluent_kafka import Message

from tests.integration.records import committed
from tests.integration.workers import Crew


def told(made: Crew, kind: str, queue: str = "celery", *, copies: bool = True) -> Counter[str]:
    """The begins or ends in a queue's journal, of which a new owner would know, by the task's name.

    Args:
        copies: those of all records of a task count, else only those of the first one.
    """
    places = Counter(
        (record.partition(), offset)
        for record in committed(made.kafka, f"{made.prefix}.journal.{queue}")
        for each, offset, *_ in json.loads(record.value()).get("t", [])
        if each == kind
    )
    found = Counter[str]()
    for record in committed(made.kafka, f"{made.prefix}.queue.{queue}"):
        name = name_of(record)
        found[name] += places[record.partition(), record.offset()] if copies or name not in found else 0
    return +found


def name_of(record: Message) -> str:
    """The name of the task in a record."""
    return str(json.loads(record.value())[1]["name"])
