"""Stops about looking after it: remote control, pauses, the API, metrics, Flower."""

from __future__ import annotations

import re
from collections import Counter

import kafka_exec
from celery_app import diary
from celery_app.packages import refresh, stay
from celery_app.tasks import add
from celery_app.tour.app import SINGLE, app
from celery_app.tour.guide import REPLY_TIMEOUT, Elsewhere, Seen, Steps, Stop, Tour


def remote_control(tour: Tour) -> Steps:
    """Workers say what they have run; a broadcast reaches each of them."""
    nodes = tour.workers.nodes
    stats = app.control.inspect(destination=nodes, timeout=REPLY_TIMEOUT, limit=len(nodes)).stats() or {}
    tour.require(set(stats) == set(nodes), f"no statistics from {', '.join(sorted(set(nodes) - set(stats)))}")
    ran: Counter[str] = Counter()
    for answer in stats.values():
        ran.update(answer["total"])
    for name, number in tour.sent.items():
        tour.require(ran[name] == number, f"{name} ran {ran[name]} times, sent {number} times")
    ended = sum(tour.sent.values())
    tour.require(tour.events.wait_for({"task-succeeded": ended}, REPLY_TIMEOUT), "events of tasks are missing")
    everywhere = refresh.delay()
    tour.until(lambda: len(diary.read("refresh", everywhere.id)) >= len(nodes), "a broadcast in each worker")
    reached = {entry.worker for entry in diary.read("refresh", everywhere.id)}
    tour.require(reached == set(nodes), f"a broadcast reached {', '.join(sorted(reached))} only")
    yield Seen(
        "the workers were asked what they had run, and one task was broadcast to all of them",
        f"{len(stats)} workers answered, {len(reached)} ran it, and their events told of each end",
        f"{sum(ran[name] for name in tour.sent)} runs of {ended} tasks; {tour.events.counts['task-succeeded']} events",
    )


def waits(tour: Tour) -> Steps:
    """A queue is paused, and a task in it is asked why it does not run."""
    kafka_exec.pause_queue(app, SINGLE, by="the tour", reason="to be looked at")
    sent = stay.apply_async((0.0,), queue=SINGLE)
    why = tour.api("executions", sent.id, "why")
    state = tour.api("queues", SINGLE)["state"]
    tour.require(why["reason"] == "paused", f"a task in a paused queue does not run since it is {why['reason']}")
    kafka_exec.resume_queue(app, SINGLE)
    tour.result(sent)
    yield Seen(
        f"the queue {SINGLE} was paused, a task was sent to it and asked why it did not run, and the queue was resumed",
        f"“{why['sentence']}”",
        f"the queue was {state}; record {tour.place(sent.id)} ran after that",
    )


def metrics(tour: Tour) -> Steps:
    """The exporter serves figures of queues and tasks."""
    yield None
    text = tour.page("exporter", "/metrics")
    up = re.search(r"^kafka_exec_up (\S+)", text, re.MULTILINE)
    tour.require(up is not None and float(up[1]) == 1, "the exporter does not read Kafka")
    done = re.findall(r'^kafka_exec_task_transitions_total\{.*state="DONE".*\} (\S+)', text, re.MULTILINE)
    families = set(re.findall(r"^# TYPE (kafka_exec_\w+)", text, re.MULTILINE))
    yield Seen(
        "the exporter was asked for its metrics, as Prometheus does",
        f"{len(families)} metrics, read from Kafka alone",
        f"kafka_exec_up {up and up[1]}; transitions to DONE so far: {sum(map(float, done)):.0f}",
    )


def http_api(tour: Tour) -> Steps:
    """A task is sent over HTTP, and its result is asked for."""
    sent = tour.api("executions", body={"name": add.name, "args": [20, 22]})["id"]

    def done() -> dict[str, object]:
        found: dict[str, object] = tour.api("executions", sent)
        return found if found["state"] == "DONE" else {}

    found = tour.until(done, "the end of a task that came over HTTP")
    tour.require(found["result"] == 42, f"20 + 22 is {found['result']} over HTTP")
    yield Seen(
        "POST /api/kafka/executions sent a task, GET told its state",
        f"20 + 22 is {found['result']}, by {found['worker']}",
        f"record {tour.place(sent)}",
    )


def flower(tour: Tour) -> Steps:
    """Flower's page of queues is fetched."""
    yield None
    page = tour.page("flower", "/kafka/queues")
    queues = re.findall(r'data-title="Queue"[^>]*>(.*?)</td>', page, re.DOTALL)
    names = sorted({re.sub(r"<[^>]+>", "", each).strip() for each in queues})
    tour.require(names, "Flower's page of queues shows none")
    yield Seen(
        "Flower, as it is, was asked for its page of queues",
        f"it shows {len(names)} queues of Kafka: {', '.join(names)}",
        f"{len(page):,} characters",
    )


STOPS = [
    Stop("Remote control", remote_control),
    Stop("What waits, and why", waits, ("api",)),
    Stop("What waits, and why", metrics, ("exporter",)),
    Stop("HTTP API", http_api, ("api",)),
    Stop("Flower", flower, ("flower",)),
]
ELSEWHERE = [
    Elsewhere("Security", "this Kafka has no users", "./dev broker --secure"),
]
