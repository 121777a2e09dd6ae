"""Operations of the API on periodic entries."""

from __future__ import annotations

from typing import Any

from kafka_exec.api.operation import LIST, NAME, OBJECT, Call, Operation, Schema, items, told
from kafka_exec.beat.periodic import PeriodicTasks

#: The definition of an entry; what it leaves out has its usual value.
ENTRY: dict[str, Schema] = {
    "name": told(NAME, "The entry's name."),
    "task": told(NAME, "The task's name."),
    "schedule": told({"type": ["string", "number"]}, "Seconds, every 5 m, 0 4 * * mon, or solar sunset 52.5 13.4."),
    "args": told(LIST, "Positional arguments."),
    "kwargs": told(OBJECT, "Named arguments."),
    "options": told(OBJECT, "Options of apply_async."),
    "catch_up": told({"enum": ["skip", "one", "all"]}, "The missed slots that are fired."),
    "max_running": told({"type": "integer"}, "So many runs are under way at a time."),
    "max_duration": told({"type": "number"}, "After so many seconds a run is stopped."),
    "labels": told({**LIST, "items": NAME}, "Only beats with all these labels fire it."),
    "on_node": told({"type": "boolean"}, "Its holder runs the task itself."),
    "overlap": told({"enum": ["queue", "skip", "replace"]}, "With on_node: what becomes of a slot during a run."),
    "after_end": told({"type": "boolean"}, "With on_node: the period begins when a run ends."),
}


def periodic(call: Call) -> Any:
    """Lists the periodic entries, with their holders, the last slot that was fired, and the next one."""
    return items([each.facts() for each in PeriodicTasks(call.app).all()])


def entry(call: Call) -> Any:
    """Tells all that is known of a periodic entry."""
    return PeriodicTasks(call.app).one(call.path["name"]).facts()


def add_entry(call: Call) -> Any:
    """Adds a periodic entry, which all beats follow at once."""
    more = dict(call.body)
    name = more.pop("name")
    PeriodicTasks(call.app).add(name, more.pop("task"), more.pop("schedule"), **more)
    return {"entry": name}


def pause_entry(call: Call) -> Any:
    """Stops firing a periodic entry, until it is resumed."""
    PeriodicTasks(call.app).pause(call.path["name"])
    return {"entry": call.path["name"]}


def resume_entry(call: Call) -> Any:
    """Has a periodic entry fired again; slots that were due meanwhile are left out."""
    PeriodicTasks(call.app).resume(call.path["name"])
    return {"entry": call.path["name"]}


def run_entry_now(call: Call) -> Any:
    """Has a periodic entry fired once, at once."""
    PeriodicTasks(call.app).run_now(call.path["name"])
    return {"entry": call.path["name"]}


def remove_entry(call: Call) -> Any:
    """Removes a periodic entry; one of the configuration comes back with the next beat that has it."""
    PeriodicTasks(call.app).remove(call.path["name"])
    return {"entry": call.path["name"]}


_ONE = "/periodic/{name}"

OPERATIONS = (
    Operation("GET", "/periodic", periodic, "Entries"),
    Operation(
        "POST",
        "/periodic",
        add_entry,
        "Sent",
        body=ENTRY,
        required=("name", "task", "schedule"),
        status=201,
        errors=(413,),
    ),
    Operation("GET", _ONE, entry, "Entry", errors=(404,)),
    Operation("DELETE", _ONE, remove_entry, "Sent", errors=(404,)),
    Operation("POST", f"{_ONE}/pause", pause_entry, "Sent", errors=(404,)),
    Operation("POST", f"{_ONE}/resume", resume_entry, "Sent", errors=(404,)),
    Operation("POST", f"{_ONE}/run-now", run_entry_now, "Sent", errors=(404,)),
)
