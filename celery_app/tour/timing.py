"""Stops about time: delays, and periodic tasks of two beats of which one is killed."""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime
from itertools import pairwise

from celery import states

from celery_app import diary
from celery_app.app import app
from celery_app.packages import stay, tick, tidy
from celery_app.tour.guide import PATIENCE, REPLY_TIMEOUT, DemoError, Seen, Steps, Stop, Tour
from kafka_exec.beat import PeriodicTasks

DELAY = 4

#: So many slots are seen before a beat is killed, and again after that.
SLOTS = 3

#: The process id keeps the names apart from those of another demonstration on the same broker.
TICK, TIDY = (f"{name}-{os.getpid()}" for name in ("tick", "tidy"))

BEATS = ("beat1", "beat2")


def clock(at: float) -> str:
    """A time for people."""
    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-4]


def delays(tour: Tour) -> Steps:
    """A task that waits for its time, and one that is revoked meanwhile."""
    revoked = stay.apply_async((0.0,), countdown=DELAY)
    # A worker that knows of the revocation before it gets the task sends no event that it received it.
    if not tour.events.wait_for({"task-received": 1}, PATIENCE):
        raise DemoError("no worker received the first task")
    nodes = tour.workers.nodes
    replies = app.control.revoke(revoked.id, reply=True, destination=nodes, timeout=REPLY_TIMEOUT, limit=len(nodes))
    missing = set(nodes) - {node for reply in replies or () for node in reply}
    tour.require(not missing, f"revoke was not confirmed by {', '.join(sorted(missing))}")
    waiting = stay.apply_async((0.0,), countdown=DELAY)
    known = tour.api("executions", waiting.id)
    tour.require(known["state"] == "SCHEDULED", f"a task that waits for its time is {known['state']}")
    yield None
    tour.result(waiting)
    [begin] = diary.read("begin", waiting.id)
    tour.result(revoked, propagate=False)
    tour.require(revoked.state == states.REVOKED, f"the revoked task ended as {revoked.state}")
    tour.require(not diary.read("begin", revoked.id), "the revoked task ran")
    yield Seen(
        f"a task was sent to run {DELAY} s later, and another one that was revoked meanwhile",
        f"it was SCHEDULED in Kafka, and began {1000 * (begin.at - known['due']):.0f} ms late; the other one never ran",
        f"due {clock(known['due'])}, begun {clock(begin.at)}",
    )


def periodic(tour: Tour) -> Steps:
    """An entry of two beats; the one that holds it is killed."""
    entries = PeriodicTasks(app)
    entries.add(TICK, tick.name, 1.0, catch_up="all")
    yield None
    tour.until(lambda: len(slots()) >= SLOTS, "the first slots of a periodic entry")
    holder = str(entries.one(TICK).standing.name)
    victim = next(name for name in BEATS if holder.startswith(f"beat-{tour.services[name].pid}@"))
    tour.services.pop(victim).kill()
    fired = max(slots())
    yield None
    tour.until(lambda: max(slots()) >= fired + SLOTS, "slots that the other beat fires")
    after = str(entries.one(TICK).standing.name)
    found = slots()
    twice = [slot for slot, times in found.items() if times > 1]
    missed = [slot for slot, later in pairwise(sorted(found)) if later - slot > 1.5]
    tour.require(not twice and not missed, f"slots fired twice: {twice}; slots before missed ones: {missed}")
    tour.require(after != holder, "the killed beat still has the entry")
    yield Seen(
        f"an entry ran every second, and {victim}, which held it, was killed after {SLOTS} slots",
        "the other beat went on, and no slot was missed or fired twice",
        f"{len(found)} slots from {clock(min(found))} to {clock(max(found))}; {holder} before, {after} now",
    )


def slots() -> Counter[float]:
    """How often each slot of the entry was run."""
    return Counter(entry.number for entry in diary.read("tick"))


def on_node(tour: Tour) -> Steps:
    """An entry that its holder runs itself."""
    PeriodicTasks(app).add(TIDY, tidy.name, 1.0, on_node=True)
    yield None
    tour.until(lambda: len(diary.read("tidy")) >= SLOTS, "runs of an entry on its node")
    before = len(diary.read("tidy"))
    yield None
    tour.until(lambda: len(diary.read("tidy")) > before + 1, "further runs of an entry on its node")
    runs = diary.read("tidy")
    tokens = [int(entry.number) for entry in runs]
    tour.require(tokens == sorted(tokens), f"the fencing tokens of the runs fell: {tokens}")
    processes = Counter(entry.pid for entry in runs)
    yield Seen(
        "an entry ran every second in the beat that held it, without a message",
        f"{len(runs)} runs, in one process for each claim",
        ", ".join(f"process {pid}: {number} runs" for pid, number in processes.items())
        + f"; tokens up to {tokens[-1]}",
    )


def forget() -> None:
    """Removes the entries again."""
    entries = PeriodicTasks(app)
    for name in {each.name for each in entries.all()} & {TICK, TIDY}:
        entries.remove(name)


STOPS = [
    Stop("Delays", delays, ("api",)),
    Stop("Periodic tasks", periodic, BEATS),
    Stop("Runs on the node", on_node, BEATS),
]
