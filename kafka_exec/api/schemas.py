"""The schemas of the API's answers. The objects in them are those that the commands print with ``--json``."""

from __future__ import annotations

from collections.abc import Mapping

from kafka_exec.api.operation import Schema
from kafka_exec.core.overview.queues import QueueState
from kafka_exec.core.overview.why import Reason
from kafka_exec.core.results.lifecycle import State

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
_TEXTS: Schema = {"type": "array", "items": _TEXT}


def _object(optional: Mapping[str, Schema] | None = None, **required: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _list(of: str, **more: Schema) -> Schema:
    return _object(items={"type": "array", "items": {"$ref": f"#/components/schemas/{of}"}}, **more)


_STATE = {"enum": [each.value for each in State]}

_QUEUE_COUNTS = ("ready", "running", "lost", "parked", "blocked", "delayed", "dead", "workers", "slots", "free")

SCHEMAS: Mapping[str, Schema] = {
    "Error": _object(error=_TEXT),
    "Task": _object(
        {
            **dict.fromkeys(("name", "queue", "worker", "ordering_key", "traceback", "parent", "root"), _TEXT),
            **dict.fromkeys(("created", "due", "started", "finished"), _NUMBER),
            **dict.fromkeys(("attempts", "retries"), _COUNT),
            "result": {},
            "lost": _FLAG,
        },
        schema={"const": 1},
        id=_TEXT,
        state=_STATE,
        status=_TEXT,
    ),
    "Tasks": _list("Task", more=_COUNT),
    "Count": _object(number=_COUNT),
    "Counts": _list("Count"),
    "Sent": {"anyOf": [_object(id=_TEXT), _object(entry=_TEXT)]},
    "Named": _object(id=_TEXT),
    "Event": _object(at=_NUMBER, what=_TEXT),
    "Events": _list("Event"),
    "Branch": _object(depth=_COUNT, id=_TEXT, name=_MAYBE_TEXT, state=_STATE),
    "Branches": _list("Branch"),
    "Reason": _object(schema={"const": 1}, id=_TEXT, sentence=_TEXT, reason={"enum": [each.value for each in Reason]}),
    "Resumed": _object(outcome=_TEXT, got=_COUNT, expected=_COUNT),
    "Replayed": _object(replayed=_COUNT),
    "Suspension": _object(
        correlation_id=_TEXT, task=_TEXT, created=_NUMBER, got=_COUNT, expected=_COUNT, deadline=_MAYBE_NUMBER
    ),
    "Suspensions": _list("Suspension"),
    "Queue": _object(
        queue=_TEXT,
        **dict.fromkeys(_QUEUE_COUNTS, _COUNT),
        oldest=_MAYBE_NUMBER,
        oldest_age=_MAYBE_NUMBER,
        rate=_NUMBER,
        state={"enum": [each.value for each in QueueState]},
        paused={"type": ["object", "null"]},
        paused_keys={"type": "object"},
    ),
    "Queues": _list("Queue"),
    "Pause": _object(
        {"by": _TEXT, "at": _NUMBER, "reason": _TEXT, "until": _MAYBE_NUMBER}, queue=_TEXT, key=_MAYBE_TEXT
    ),
    "Topic": _object(
        schema={"const": 1},
        topic=_TEXT,
        purpose=_TEXT,
        partitions=_COUNT,
        replicas=_COUNT,
        records=_COUNT,
        deviations=_TEXTS,
    ),
    "Topics": _list("Topic"),
    "Rate": _object(
        schema={"const": 1},
        queue=_TEXT,
        task=_MAYBE_TEXT,
        seconds=_NUMBER,
        sent=_COUNT,
        begun=_COUNT,
        ended=_COUNT,
        wait=_MAYBE_NUMBER,
    ),
    "Rates": _list("Rate"),
    "Copy": _object(sent=_NUMBER, name=_TEXT, key=_MAYBE_TEXT, id=_TEXT, copy=_TEXT),
    "Copies": _list("Copy", schema={"const": 1}, queue=_TEXT, chosen=_COUNT, refused=_COUNT, sent=_COUNT),
    "Problem": _object(severity=_TEXT, text=_TEXT, command=_TEXT),
    "Status": _object(
        schema={"const": 1},
        servers=_TEXT,
        prefix=_TEXT,
        queues={"type": "array", "items": {"$ref": "#/components/schemas/Queue"}},
        nodes={"type": "object", "additionalProperties": _COUNT},
        problems={"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
    ),
    "Node": _object(
        name=_TEXT,
        kind=_MAYBE_TEXT,
        version=_MAYBE_TEXT,
        state={"enum": ["alive", "lost", "left"]},
        heard=_NUMBER,
        age=_NUMBER,
        slots=_COUNT,
        active=_COUNT,
        queues=_TEXTS,
    ),
    "Nodes": _list("Node"),
    "Key": _object(key=_TEXT, queue=_TEXT, state=_TEXT, waiting=_COUNT, task=_MAYBE_TEXT, node=_TEXT),
    "Keys": _list("Key"),
    "Unblocked": _object({"skipped": _TEXTS}, queues=_TEXTS),
    "Letter": _object(
        {"body": {}, "headers": {"type": "array"}, "key": _MAYBE_TEXT},
        queue=_TEXT,
        partition=_COUNT,
        offset=_COUNT,
        at=_NUMBER,
        reason=_TEXT,
        error=_TEXT,
        task=_TEXT,
        id=_TEXT,
        replayed=_FLAG,
    ),
    "Letters": _list("Letter", more=_COUNT),
    "Entry": _object(
        name=_TEXT,
        task=_MAYBE_TEXT,
        state={"enum": ["paused", "held", "lost", "free"]},
        paused=_FLAG,
        holder=_MAYBE_TEXT,
        last=_MAYBE_NUMBER,
        next=_MAYBE_NUMBER,
        runs=_COUNT,
        missed=_COUNT,
    ),
    "Entries": _list("Entry"),
    "Document": _object(openapi=_TEXT, info={"type": "object"}, paths={"type": "object"}),
}
