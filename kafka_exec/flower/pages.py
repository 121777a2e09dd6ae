"""The pages as tables: which operation of the API each of them shows, its columns, and the acts on a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from kafka_exec.core.overview.times import age_of, time_of, when
from kafka_exec.core.overview.why import Reason
from kafka_exec.core.results.lifecycle import TERMINAL, State, to_celery
from kafka_exec.core.results.smaller import is_left_out
from kafka_exec.flower.tables import Column, Facts, ListPage, PageAct

_ENDED = frozenset(state.value for state in TERMINAL)


def _queue_state(facts: Facts, now: float) -> str:
    paused, keys = facts["paused"], facts["paused_keys"]
    if paused:
        end = f" until {time_of(paused['until'])}" if paused["until"] else ""
        return f"paused by {paused['by']}{end}{': ' if paused['reason'] else ''}{paused['reason']}"
    return f"{facts['state']}, paused keys: {len(keys)}" if keys else str(facts["state"])


def _task_state(facts: Facts, now: float) -> str:
    """The state of a task; of a running task also the application's own word for it."""
    is_own = facts["state"] == State.RUNNING.value and facts["status"] != to_celery(State.RUNNING)
    more = [*([facts["status"]] if is_own else []), *(["lost"] if facts.get("lost") else [])]
    return f"{facts['state']} ({', '.join(more)})" if more else str(facts["state"])


def _seconds(facts: Facts, now: float) -> str:
    return f"{facts['finished'] - facts['started']:.3f}" if {"started", "finished"} <= facts.keys() else ""


def _callbacks(facts: Facts, now: float) -> str:
    return f"{facts['got']} of {facts['expected']}" if facts["expected"] else "none, only its time"


def _address(facts: Facts) -> str:
    return f"{facts['partition']}:{facts['offset']}"


def _to_task(name: str) -> Callable[[Facts], str]:
    return lambda facts: f"executions/{quote(str(facts[name]), safe='')}" if facts.get(name) else ""


def _by(*names: str) -> Callable[[Facts], Mapping[str, str]]:
    """A function that takes the parts of a path from the fields of the same names."""
    return lambda facts: {name: str(facts[name]) for name in names}


def _letter(facts: Facts) -> Mapping[str, str]:
    return {"queue": facts["queue"], "address": _address(facts)}


def _are_arguments_whole(facts: Facts) -> bool:
    """False if a state record has a replacement for a task's arguments: with it nothing may be sent."""
    return not any(is_left_out(facts.get(name)) for name in ("args", "kwargs"))


def _arguments(facts: Facts) -> Facts:
    """The arguments of the task in a letter, or in a state record."""
    body = facts.get("body")
    if isinstance(body, list) and len(body) > 1:
        return {"args": body[0], "kwargs": body[1]}
    return {name: facts[name] for name in ("args", "kwargs") if name in facts}


PAGES: Mapping[str, ListPage] = {
    "queues": ListPage(
        "Queues",
        "status",
        (
            Column("Queue", "queue"),
            Column("Ready", lambda facts, now: f"{facts['ready']}{'+' if facts['uncounted'] else ''}"),
            Column("Running", lambda facts, now: str(facts["running"] + facts["lost"])),
            Column("Delayed", "delayed"),
            Column("Blocked", "blocked"),
            Column("Parked", "parked"),
            Column("Oldest", lambda facts, now: age_of(facts["oldest"], now)),
            Column("In/s", lambda facts, now: f"{facts['rate']:.1f}"),
            Column("Workers", "workers"),
            Column("Slots", "slots"),
            Column("Free", "free"),
            Column(
                "Dead", "dead", lambda facts: f"dead?queue={quote(facts['queue'], safe='')}" if facts["dead"] else ""
            ),
            Column("State", _queue_state),
        ),
        (
            PageAct(
                "Pause",
                "pause_queue",
                _by("queue"),
                ("reason", "until", "key"),
                applies=lambda facts: not facts["paused"],
            ),
            PageAct("Resume", "resume_queue", _by("queue"), applies=lambda facts: bool(facts["paused"])),
            PageAct(
                "Resume key",
                "resume_queue",
                _by("queue"),
                ("key",),
                lambda facts: {"key": next(iter(facts["paused_keys"]))},
                lambda facts: bool(facts["paused_keys"]),
            ),
        ),
        rows="queues",
    ),
    "executions": ListPage(
        "Executions",
        "executions",
        (
            Column("Id", "id", _to_task("id")),
            Column("State", _task_state),
            Column("Name", "name"),
            Column("Queue", "queue"),
            Column("Worker", "worker"),
            Column("Attempts", "attempts"),
            Column("Started", "started"),
            Column("Seconds", _seconds),
        ),
    ),
    "keys": ListPage(
        "Keys",
        "keys",
        (
            Column("Key", "key"),
            Column("Queue", "queue"),
            Column("State", "state"),
            Column("Waiting", "waiting"),
            Column("Task", "task", _to_task("task")),
            Column("Node", "node"),
        ),
        (PageAct("Unblock", "unblock_key", _by("key")), PageAct("Skip", "skip_key", _by("key"))),
    ),
    "suspended": ListPage(
        "Suspended",
        "suspended",
        (
            Column("Correlation", "correlation_id"),
            Column("Task", "task", _to_task("task")),
            Column("Age", lambda facts, now: age_of(facts["created"], now)),
            Column("Callbacks", _callbacks),
            Column("Deadline", lambda facts, now: when(facts["deadline"], now) if facts["deadline"] else ""),
        ),
        (PageAct("Resume", "resume_suspended", _by("correlation_id"), ("data", "callback")),),
    ),
    "periodic": ListPage(
        "Periodic",
        "periodic",
        (
            Column("Name", "name"),
            Column("Task", "task"),
            Column("Schedule", "schedule"),
            Column("Source", "source"),
            Column("State", "state"),
            Column("Holder", "holder"),
            Column("Last", "last"),
            Column("Next", "next"),
            Column("Runs", "runs"),
            Column("Missed", "missed"),
        ),
        (
            PageAct("Run now", "run_entry_now", _by("name")),
            PageAct("Pause", "pause_entry", _by("name"), applies=lambda facts: not facts["paused"]),
            PageAct("Resume", "resume_entry", _by("name"), applies=lambda facts: bool(facts["paused"])),
        ),
    ),
    "dead": ListPage(
        "Dead letters",
        "dead",
        (
            Column("Queue", "queue"),
            Column(
                "Letter",
                lambda facts, now: _address(facts),
                lambda facts: f"dead/{quote(facts['queue'], safe='')}/{_address(facts)}",
            ),
            Column("When", "at"),
            Column("Reason", "reason"),
            Column("Task", "task"),
            Column("Id", "id", _to_task("id")),
            Column("Replayed", "replayed"),
            Column("Error", "error"),
        ),
        (PageAct("Replay", "replay_letter", _letter, applies=lambda facts: not facts["replayed"]),),
        (
            PageAct(
                "Replay all of these",
                "replay_letters",
                _by("queue"),
                ("reason", "task", "all"),
                lambda query: {name: query[name] for name in ("reason", "task") if name in query},
                lambda query: "queue" in query,
            ),
        ),
    ),
    "nodes": ListPage(
        "Nodes",
        "nodes",
        (
            Column("Name", "name"),
            Column("State", "state"),
            Column("Kind", "kind"),
            Column("Version", "version"),
            Column("Incarnation", lambda facts, now: str(facts["incarnation"])[:8]),
            Column("Host", lambda facts, now: facts["place"].partition(" ")[0]),
            Column("Pid", "pid"),
            Column("Since", "since"),
            Column("Heard", lambda facts, now: f"{facts['age']:.1f} s ago"),
            Column("Slots", "slots"),
            Column("Active", "active"),
            Column("Queues", "queues"),
            Column("Tasks", "known"),
            Column("Control plane", "control_plane"),
            Column("Faults", "faults"),
        ),
    ),
}

#: The acts on one task; ``reason``: why it does not run.
TASK_ACTS = (
    PageAct(
        "Resume",
        "resume_execution",
        _by("id"),
        ("data", "callback"),
        applies=lambda facts: facts["state"] == State.SUSPENDED.value,
    ),
    PageAct(
        "Run now", "run_execution_now", _by("id"), applies=lambda facts: facts["reason"] == Reason.WAITS_FOR_TIME.value
    ),
    PageAct("Replay", "retry_execution", _by("id"), applies=lambda facts: facts["reason"] == "dead letter"),
    PageAct(
        "Edit and replay",
        "retry_execution",
        _by("id"),
        ("args", "kwargs"),
        _arguments,
        lambda facts: facts["reason"] == "dead letter" and _are_arguments_whole(facts),
    ),
    PageAct(
        "Run again as a new task",
        "create",
        lambda facts: {},
        ("name", "args", "kwargs", "queue", "ordering_key"),
        lambda facts: facts,
        lambda facts: facts["state"] in _ENDED and "name" in facts and _are_arguments_whole(facts),
    ),
    PageAct(
        "Revoke", "revoke_execution", _by("id"), ("terminate",), applies=lambda facts: facts["state"] not in _ENDED
    ),
    PageAct("Add a remark", "remark_execution", _by("id"), ("text",), applies=lambda facts: "schema" in facts),
)

#: The acts on one letter.
LETTER_ACTS = (
    PageAct("Replay", "replay_letter", _letter, applies=lambda facts: not facts["replayed"]),
    PageAct("Edit and replay", "replay_letter", _letter, ("args", "kwargs", "again"), _arguments),
)

#: The columns of what has happened to a task, and of the tasks that it has sent.
EVENTS = (
    Column("Time", "at"),
    Column("Event", "what"),
    Column("Attempt", "attempt"),
    Column("Worker", "worker"),
    Column(
        "Place",
        lambda facts, now: f"{facts['topic']} {facts['partition']}:{facts['offset']}" if facts.get("topic") else "",
    ),
    Column("Detail", "detail"),
)
BRANCHES = (
    Column("State", "state"),
    Column("Name", lambda facts, now: f"{'- ' * facts['depth']}{facts['name']}"),
    Column("Id", "id", _to_task("id")),
)
