"""Operations of the API on tasks: listing, sending, and acts on single ones."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from kafka_exec.api.operation import FLAG, LIST, NAME, OBJECT, PAGING, TEXT, Call, Operation, Schema, items, told
from kafka_exec.app.durable.resuming import resume
from kafka_exec.beat.periodic import PeriodicTasks
from kafka_exec.core.overview.choosing.filters import COUNTED, TaskFilter, expression, moment, states_of
from kafka_exec.core.overview.sentences import sentence
from kafka_exec.core.overview.times import when
from kafka_exec.errors import ConfigurationError
from kafka_exec.operations import acts, tasks

#: The filter of the commands for many tasks.
CHOOSING: dict[str, Schema] = {
    "name": told(TEXT, "Only tasks of this name, a shell pattern."),
    "state": told(TEXT, "Only tasks in one of these states, separated by commas."),
    "active": told(FLAG, "Only tasks that have not ended."),
    "queue": told(TEXT, "Only tasks of this queue, a shell pattern."),
    "key": told(TEXT, "Only tasks of this ordering key, a shell pattern."),
    "worker": told(TEXT, "Only tasks of this worker, a shell pattern."),
    "since": told(TEXT, "Changed since then: an age (90 s, 2 h) or a date."),
    "until": told(TEXT, "Changed before then."),
    "where": told(TEXT, 'Only tasks for which an expression is true: args[0] == 42 and error ~ "timeout".'),
}

ANSWER: dict[str, Schema] = {
    "data": told({}, "The value that the task gets."),
    "callback": told(NAME, "The id of the callback, if the suspension expects several."),
    "timeout": told(
        {"type": "number", "minimum": 0, "maximum": 60, "default": 10}, "Wait so many seconds for the answer."
    ),
}

ARGUMENTS: dict[str, Schema] = {
    "args": told(LIST, "Positional arguments in place of the task's own."),
    "kwargs": told(OBJECT, "Named arguments in place of the task's own."),
}

SENDING: dict[str, Schema] = {
    "name": told(NAME, "The task's name."),
    "args": told({**LIST, "default": []}, "Positional arguments."),
    "kwargs": told({**OBJECT, "default": {}}, "Named arguments."),
    "queue": told(NAME, "A queue that exists; by default that of the application's routes."),
    "ordering_key": told(NAME, "Tasks of one key run one at a time, in order."),
    "deduplication_id": told(NAME, "Tasks with the same id are one task."),
    "eta": told({**TEXT, "format": "date-time"}, "The time at which it begins, with a time zone."),
    "scheduleExpression": told(NAME, "Makes it a periodic entry: every 5 m, or 0 4 * * mon."),
    "entry": told(NAME, "The name of that entry; by default the task's name."),
}


def executions(call: Call) -> Any:
    """Lists tasks, the latest first."""
    return _listed(call, _chosen(call))


def active(call: Call) -> Any:
    """Lists the tasks that have not ended; those whose worker is lost are marked."""
    return _listed(call, TaskFilter.of(active=True))


def counts(call: Call) -> Any:
    """Counts tasks by one of their parts."""
    by = call.query["by"]
    return items([{by: name, "number": number} for name, number in tasks.counted(call.app, _chosen(call), by)])


def _listed(call: Call, chosen: TaskFilter) -> Any:
    offset = call.query["offset"]
    found = tasks.latest(call.app, chosen, call.query["limit"], offset=offset)
    return items(found.facts(), more=max(0, found.matching - offset - len(found.records)))


def _chosen(call: Call) -> TaskFilter:
    given, now = {name: value for name, value in call.query.items() if name in CHOOSING}, time.time()
    if "state" in given:
        given["states"] = states_of(given.pop("state"))
    for name in ("since", "until"):
        if name in given:
            given[name] = moment(given[name], now)
    if "where" in given:
        given["where"] = expression(given["where"])
    return TaskFilter.of(**given)


def create(call: Call) -> Any:
    """Sends a task, whose state is stored before; or adds a periodic entry, if it has a scheduleExpression."""
    body = dict(call.body)
    name, args, kwargs = body.pop("name"), body.pop("args"), body.pop("kwargs")
    if "scheduleExpression" in body:
        return _schedule(call, name, args, kwargs, body)
    if "entry" in body:
        raise ConfigurationError("entry: only a task with a scheduleExpression has one")
    if "eta" in body:
        body["eta"] = _time(body["eta"])
    return {"id": acts.send(call.app, name, args, kwargs, **body)}


def _schedule(call: Call, task: str, args: list[Any], kwargs: dict[str, Any], body: dict[str, Any]) -> Any:
    acts.require_task(call.app, task)
    schedule, entry = body.pop("scheduleExpression"), body.pop("entry", task)
    if wrong := body.keys() & {"eta", "deduplication_id"}:
        raise ConfigurationError(f"{min(wrong)}: a task with a scheduleExpression has none")
    PeriodicTasks(call.app).add(entry, task, schedule, args=args, kwargs=kwargs, options=body)
    return {"entry": entry}


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        found.timestamp()
    except (ValueError, OverflowError):
        raise ConfigurationError(f"eta: {text!r} is no date, such as 2026-01-31T14:00:00Z") from None
    if found.tzinfo is None:
        raise ConfigurationError(f"eta: {text!r} must say its time zone")
    return found


def execution(call: Call) -> Any:
    """Tells what is known of a task, with all its errors and remarks."""
    return tasks.task(call.app, call.path["id"]).as_json()


def history(call: Call) -> Any:
    """Tells everything that has happened to a task, in order."""
    return items([each.as_json() for each in tasks.history(call.app, call.path["id"])[1]])


def tree(call: Call) -> Any:
    """Tells the states of a task and of all tasks that it has sent."""
    return items([each._asdict() for each in tasks.tree(call.app, call.path["id"])])


def why(call: Call) -> Any:
    """Says why a task does not run, in a sentence and in facts."""
    now = time.time()
    found = tasks.reason(call.app, call.path["id"], now)
    return {"schema": 1, "sentence": sentence(found, lambda at: when(at, now)), **found.as_json()}


def resume_execution(call: Call) -> Any:
    """Continues a task that is suspended."""
    body = call.body
    found = acts.resume_task(call.app, call.path["id"], body.get("data"), body.get("callback"), timeout=body["timeout"])
    return found._asdict()


def retry_execution(call: Call) -> Any:
    """Replays the dead letter of a task: the same id runs again. It is replayed once."""
    found = acts.replay_task(call.app, call.path["id"], call.body.get("args"), call.body.get("kwargs"))
    return {"replayed": found}


def run_execution_now(call: Call) -> Any:
    """Has a task run now that waits for its time, or for that of a retry."""
    acts.run_task_now(call.app, call.path["id"])
    return {"id": call.path["id"]}


def revoke_execution(call: Call) -> Any:
    """Asks the workers to revoke a task, and with terminate to end the process that runs it."""
    acts.revoke(call.app, call.path["id"], terminate=call.body["terminate"])
    return {"id": call.path["id"]}


def remark_execution(call: Call) -> Any:
    """Adds a remark to a task, in the name of the user."""
    tasks.remark(call.app, call.path["id"], call.body["text"], call.user)
    return {"id": call.path["id"]}


def suspended(call: Call) -> Any:
    """Lists the tasks that are suspended, with the callbacks that they wait for, the oldest first."""
    return items([each._asdict() for each in tasks.suspended(call.app)])


def resume_suspended(call: Call) -> Any:
    """Continues the task that is suspended with a correlation id, or will be."""
    body = call.body
    name = call.path["correlation_id"]
    return resume(call.app, name, body.get("data"), body.get("callback"), timeout=body["timeout"])._asdict()


_ONE = "/executions/{id}"

OPERATIONS = (
    Operation("GET", "/executions", executions, "Tasks", {**CHOOSING, **PAGING}),
    Operation("POST", "/executions", create, "Sent", body=SENDING, required=("name",), status=201, errors=(404, 413)),
    Operation("GET", "/executions/active", active, "Tasks", PAGING),
    Operation(
        "GET",
        "/executions/counts",
        counts,
        "Counts",
        {**CHOOSING, "by": told({"enum": list(COUNTED), "default": "state"}, "The part.")},
    ),
    Operation("GET", _ONE, execution, "Task", errors=(404,)),
    Operation("GET", f"{_ONE}/history", history, "Events", errors=(404,)),
    Operation("GET", f"{_ONE}/tree", tree, "Branches", errors=(404,)),
    Operation("GET", f"{_ONE}/why", why, "Reason"),
    Operation("POST", f"{_ONE}/resume", resume_execution, "Resumed", body=ANSWER, errors=(404, 409, 413)),
    Operation("POST", f"{_ONE}/retry", retry_execution, "Replayed", body=ARGUMENTS, errors=(404, 409)),
    Operation("POST", f"{_ONE}/run-now", run_execution_now, "Named", errors=(404, 409)),
    Operation(
        "POST",
        f"{_ONE}/revoke",
        revoke_execution,
        "Named",
        body={"terminate": told(FLAG, "Also end the process that runs it.")},
        status=202,
        errors=(409,),
    ),
    Operation(
        "POST",
        f"{_ONE}/remark",
        remark_execution,
        "Named",
        body={"text": told(NAME, "The remark.")},
        required=("text",),
        errors=(404, 413),
    ),
    Operation("GET", "/suspended", suspended, "Suspensions"),
    Operation("POST", "/suspended/{correlation_id}/resume", resume_suspended, "Resumed", body=ANSWER, errors=(413,)),
)
