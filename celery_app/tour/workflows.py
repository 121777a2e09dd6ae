"""Stops about durable tasks, jobs, and tasks that are no Python function."""

from __future__ import annotations

from collections import Counter
from typing import Any

import kafka_exec
from celery_app import corpus, orders
from celery_app.app import LINES, app
from celery_app.tour.guide import Seen, Steps, Stop, Tour

#: The numbers of the orders.
FUNCTION, JOB = 1, 2


def durable(tour: Tour) -> Steps:
    """An order as a function; a worker is killed while it waits."""
    yield from _order(tour, FUNCTION, orders.order.delay(FUNCTION), "function")


def jobs(tour: Tour) -> Steps:
    """An order as a job, made by its name."""
    yield from _order(tour, JOB, kafka_exec.create(app, orders.job.name, {"number": JOB}), "job")


def _order(tour: Tour, number: int, sent: Any, kind: str) -> Steps:
    yield None  # it waits
    yield None
    outcome = tour.resumed(f"approve-{number}", {"approved": True, "by": "ann"})
    yield None  # a worker is killed meanwhile
    result = tour.result(sent)
    told = result["result"] if kind == "job" else result
    expected = f"invoice of order {number} for 3 parcels"
    tour.require(told == expected, f"order {number} ended with {told!r} instead of {expected!r}")
    steps = Counter(each["detail"] for each in tour.history(sent.id, "step"))
    again = [name for name, runs in steps.items() if runs != 1]
    tour.require(not again, f"order {number} did {', '.join(again)} more than once")
    yield Seen(
        f"order {number}, a {kind}, waited for its approval and for a second, and a worker was killed meanwhile",
        f"it went on ({outcome}), and sent the {told}",
        f"each step is in its history once: {', '.join(steps)}",
    )


def executors(tour: Tour) -> Steps:
    """A command of the machine counts the lines of a file."""
    if LINES not in app.tasks:
        yield Seen("nothing, for this machine has no program wc", "docs/executors.md has more", "not run")
        return
    path = tour.file()
    sent = app.send_task(LINES, kwargs={"path": str(path)})
    yield None
    answer = tour.result(sent)
    lines = corpus.decode(path.read_bytes()).count("\n")
    tour.require(answer["status"] == 0 and int(answer["output"].split()[0]) == lines, f"wc has said {answer}")
    yield Seen(
        f"a task was run by the command wc -l, in a worker, on {path.name}",
        f"its result is the command's: status {answer['status']}, {lines} lines",
        f"record {tour.place(sent.id)}",
    )


STOPS = [Stop("Durable tasks", durable, ("api",)), Stop("Jobs", jobs, ("api",)), Stop("Executors", executors, ("api",))]
