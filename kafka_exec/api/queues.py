"""Operations of the API on queues, keys, dead letters and nodes."""

from __future__ import annotations

import time
from typing import Any

from kafka_exec.api.operation import FLAG, NAME, PAGING, TEXT, Call, Operation, items, told
from kafka_exec.api.tasks import ARGUMENTS
from kafka_exec.app import pausing
from kafka_exec.app.letters import dead_letters
from kafka_exec.core.message.dead import LetterAddress, Order
from kafka_exec.core.overview.choosing.filters import time_to_come
from kafka_exec.errors import ConfigurationError, WrongState
from kafka_exec.operations import keys as key_acts
from kafka_exec.operations import letters
from kafka_exec.operations import queues as overview
from kafka_exec.settings.appconf import broker_home

_REASON = told(TEXT, "Only letters with this reason.")
_TASK = told(TEXT, "Only letters of tasks of this name.")


def status(call: Call) -> Any:
    """Tells of queues, living nodes, and what needs an operator."""
    return overview.status(call.app, time.time())


def queues(call: Call) -> Any:
    """Tells what waits in each queue, and for what."""
    return items(_reports(call))


def queue(call: Call) -> Any:
    """Tells what waits in one queue, and for what."""
    return _reports(call, call.path["queue"])[0]


def _reports(call: Call, *names: str) -> list[dict[str, Any]]:
    now = time.time()
    return [{"schema": 1, **each.facts(now)} for each in overview.reports(broker_home(call.app), names, now)]


def pause_queue(call: Call) -> Any:
    """Lets no task of a queue, or of one ordering key of it, begin in any worker, in the name of the user."""
    body, now = call.body, time.time()
    until = None if "until" not in body else time_to_come(body["until"], now)
    queue, key = call.path["queue"], body.get("key")
    found = pausing.pause_queue(call.app, queue, by=call.user, key=key, reason=body["reason"], until=until)
    return {"schema": 1, "queue": queue, "key": key, **found._asdict()}


def resume_queue(call: Call) -> Any:
    """Lets the tasks of a queue, or of one ordering key of it, begin again."""
    queue, key = call.path["queue"], call.body.get("key")
    if not pausing.resume_queue(call.app, queue, key=key):
        raise WrongState(f"queue {queue} is not paused" if key is None else f"key {key} of queue {queue} is not paused")
    return {"schema": 1, "queue": queue, "key": key}


def nodes(call: Call) -> Any:
    """Lists the nodes that send heartbeats, and those that did."""
    now = time.time()
    found = overview.nodes(call.app, call.query.get("task"), call.query["hours"], now)
    return items([overview.node_facts(seen, state, now) for seen, state in found])


def keys(call: Call) -> Any:
    """Lists the ordering keys that have unfinished tasks, as the workers answer within two seconds."""
    return items(key_acts.keys(call.app, blocked=call.query["blocked"]))


def unblock_key(call: Call) -> Any:
    """Lets the tasks of a key go on that wait for a retry, or because one of them has failed."""
    return {"queues": key_acts.unblock(call.app, call.path["key"])}


def skip_key(call: Call) -> Any:
    """Revokes the task whose retry the other tasks of a key wait for, and lets them go on."""
    skipped, found = key_acts.skip(call.app, call.path["key"])
    return {"skipped": skipped, "queues": found}


def dead(call: Call) -> Any:
    """Lists dead letters, the latest first."""
    given = call.query
    order = Order(reason=given.get("reason"), task=given.get("task"))
    offset = given["offset"]
    found = letters.latest(
        call.app, given.get("queue"), order, given["limit"], offset=offset, also_replayed=given["replayed"]
    )
    return items(found.facts(), more=max(0, found.matching - offset - len(found.letters)))


def letter(call: Call) -> Any:
    """Tells of a dead letter, with its headers, its body, and where it came from."""
    found = dead_letters(call.app, call.path["queue"]).find(_address(call))
    return letters.details(found, call.path["queue"])


def replay_letter(call: Call) -> Any:
    """Publishes a dead letter again: the same task id in the same order. It is replayed once, unless again is true."""
    body = call.body
    order = Order((_address(call),), again=body["again"], args=body.get("args"), kwargs=body.get("kwargs"))
    return {"replayed": dead_letters(call.app, call.path["queue"]).replay(order)}


def replay_letters(call: Call) -> Any:
    """Publishes dead letters of a queue again: those with a reason or of a task, or all. Each is replayed once."""
    body = call.body
    if not (body["all"] or body.get("reason") or body.get("task")):
        raise ConfigurationError("choose the letters by reason, task or all")
    order = Order(reason=body.get("reason"), task=body.get("task"))
    return {"replayed": dead_letters(call.app, call.path["queue"]).replay(order)}


def _address(call: Call) -> LetterAddress:
    text = call.path["address"]
    try:
        return LetterAddress.parse(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no address of a letter, such as 3:17") from None


_KEY = told(NAME, "Only its tasks with this ordering key.")
_HOURS = {"type": "number", "minimum": 0, "maximum": 24, "default": 1}

OPERATIONS = (
    Operation("GET", "/status", status, "Status"),
    Operation("GET", "/queues", queues, "Queues"),
    Operation("GET", "/queues/{queue}", queue, "Queue", errors=(404,)),
    Operation(
        "POST",
        "/queues/{queue}/pause",
        pause_queue,
        "Pause",
        body={
            "key": _KEY,
            "reason": told({**TEXT, "default": ""}, "Why."),
            "until": told(NAME, "It ends by itself: in 30 min, 2 h, or at a date."),
        },
        errors=(404,),
    ),
    Operation("POST", "/queues/{queue}/resume", resume_queue, "Pause", body={"key": _KEY}, errors=(404, 409)),
    Operation(
        "GET",
        "/nodes",
        nodes,
        "Nodes",
        {"task": told(TEXT, "Only nodes that know this task."), "hours": told(_HOURS, "Heard in so many hours.")},
    ),
    Operation(
        "GET", "/keys", keys, "Keys", {"blocked": told(FLAG, "Only keys that wait for a retry, or were stopped.")}
    ),
    Operation("POST", "/keys/{key}/unblock", unblock_key, "Unblocked", errors=(404,)),
    Operation("POST", "/keys/{key}/skip", skip_key, "Unblocked", errors=(404,)),
    Operation(
        "GET",
        "/dead",
        dead,
        "Letters",
        {
            "queue": told(TEXT, "Only letters of this queue."),
            "reason": _REASON,
            "task": _TASK,
            "replayed": told(FLAG, "Also letters that were replayed."),
            **PAGING,
        },
    ),
    Operation("GET", "/dead/{queue}/{address}", letter, "Letter", errors=(404,)),
    Operation(
        "POST",
        "/dead/{queue}/{address}/replay",
        replay_letter,
        "Replayed",
        body={**ARGUMENTS, "again": told(FLAG, "Also if it was replayed already.")},
        errors=(404, 409),
    ),
    Operation(
        "POST",
        "/dead/{queue}/replay",
        replay_letters,
        "Replayed",
        body={"reason": _REASON, "task": _TASK, "all": told(FLAG, "All letters that the others leave.")},
        errors=(409,),
    ),
)
