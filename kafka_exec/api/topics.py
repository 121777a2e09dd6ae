"""Operations of the API on topics, and on what stands in the logs of queues: rates, and replays of the tasks of a time."""

from __future__ import annotations

import time
from typing import Any

from kafka_exec.api.operation import FLAG, NAME, TEXT, Call, Operation, items, told
from kafka_exec.core.message.copies import Replay
from kafka_exec.core.overview.choosing import messages
from kafka_exec.core.overview.choosing.filters import moment
from kafka_exec.core.overview.choosing.messages import MessageFilter
from kafka_exec.core.overview.rates import lines
from kafka_exec.errors import NotReplayable
from kafka_exec.operations import queues as overview
from kafka_exec.operations.replays import copy_facts, replayer
from kafka_exec.settings.appconf import broker_home

#: A dry run of a replay lists so many copies.
_LISTED = 1000


def topics(call: Call) -> Any:
    """Lists the topics, with their purposes, and how they deviate from what they should be."""
    return items([{"schema": 1, **each.facts()} for each in overview.topics(call.app)])


def top(call: Call) -> Any:
    """Tells how many messages of each queue, and of each task of it, came, began and ended in the last seconds."""
    seconds, queue = call.query["seconds"], call.query.get("queue")
    names = () if queue is None else (queue,)
    return items(list(lines(overview.rates(broker_home(call.app), names, time.time() - seconds), seconds)))


def replay_queue(call: Call) -> Any:
    """Sends copies of the tasks of some time to another queue. Each is sent once, also if this is asked again."""
    body, now = call.body, time.time()
    where = None if "where" not in body else messages.expression(body["where"])
    found = replayer(
        call.app,
        call.path["queue"],
        Replay(body["as"], body["to_queue"]),
        MessageFilter(body.get("name"), body.get("key"), where),
        moment(body["since"], now),
        now if "until" not in body else moment(body["until"], now),
        in_place=body["in_place"],
    )
    refused: list[NotReplayable] = []
    copies = list(map(copy_facts, found.copies(on_refusal=refused.append)))
    listed = copies[:_LISTED] if body["dry_run"] else []
    sent = 0 if body["dry_run"] or not copies else found.send()
    told = {"queue": body["to_queue"], "chosen": len(copies), "refused": len(refused), "sent": sent}
    return {"schema": 1, **told, "items": listed}


_SECONDS = {"type": "integer", "minimum": 1, "maximum": 3600, "default": 60}

OPERATIONS = (
    Operation("GET", "/topics", topics, "Topics"),
    Operation(
        "GET",
        "/top",
        top,
        "Rates",
        {"queue": told(NAME, "Only this queue."), "seconds": told(_SECONDS, "Over the last so many.")},
        errors=(404,),
    ),
    Operation(
        "POST",
        "/queues/{queue}/replay",
        replay_queue,
        "Copies",
        body={
            "since": told(NAME, "Sent since then: 2 h, or a date."),
            "until": told(NAME, "Sent before then; now by default."),
            "to_queue": told(NAME, "The queue that gets the copies."),
            "name": told(TEXT, "Only tasks whose name fits this shell pattern."),
            "key": told(TEXT, "Only tasks whose ordering key fits this shell pattern."),
            "where": told(NAME, "Only tasks for which this expression is true: args[0] == 42."),
            "as": told({**NAME, "default": "replay"}, "A further name makes further copies."),
            "in_place": told(FLAG, "The copies may go to the queue itself."),
            "dry_run": told(FLAG, "Only list them, the first 1,000."),
        },
        required=("since", "to_queue"),
        errors=(404, 409),
    ),
)
