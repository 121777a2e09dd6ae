"""The gauges of an operator's view, as Prometheus takes them: what waits in the queues, and which nodes there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kafka_exec.core.nodes.heartbeat import NodeState, Seen
from kafka_exec.core.overview.queues import QueueReport

#: All names begin so.
PREFIX = "kafka_exec_"

_QUEUE = ("queue",)


@dataclass
class Gauge:
    """A metric with its samples: the values of its labels, and the value."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    samples: list[tuple[tuple[str, ...], float]] = field(default_factory=list)

    def add(self, value: float, *labels: str) -> None:
        """Adds a sample."""
        self.samples.append((labels, float(value)))


def gauges(
    reports: Iterable[QueueReport],
    nodes: Sequence[tuple[Seen, NodeState]],
    overdue: Mapping[str, float],
    now: float,
) -> list[Gauge]:
    """The gauges of queues, nodes and periodic entries.

    Args:
        overdue: the seconds by which each entry that beats fire is overdue.
        now: epoch seconds.
    """
    return [*_of_queues(reports, now), *_of_nodes(nodes, now), _of_entries(overdue)]


def _of_queues(reports: Iterable[QueueReport], now: float) -> list[Gauge]:
    ready = Gauge("queue_ready", "Tasks that may begin as soon as a worker has a free slot.", _QUEUE)
    running = Gauge("queue_running", "Tasks that run.", _QUEUE)
    lost = Gauge("queue_runs_lost", "Tasks that a worker ran which is gone, and that were not begun again.", _QUEUE)
    delayed = Gauge("queue_delayed", "Tasks that wait in Kafka for their time.", _QUEUE)
    blocked = Gauge("queue_blocked", "Tasks that wait for another one of their ordering key.", ("queue", "reason"))
    parked = Gauge("queue_parked", "Blocked tasks that the queue's lag does not count.", _QUEUE)
    oldest = Gauge("queue_oldest_ready_seconds", "The time since the first ready task was sent.", _QUEUE)
    rate = Gauge("queue_rate", "Messages that came to the queue, a second, over the last minute.", _QUEUE)
    workers = Gauge("queue_workers", "Living workers that read the queue.", _QUEUE)
    slots = Gauge("queue_slots", "Tasks that the queue's workers run at most.", _QUEUE)
    free = Gauge("queue_slots_free", "Free slots of the queue's workers.", _QUEUE)
    load = Gauge("queue_load", "Ready and running tasks for each slot.", _QUEUE)
    paused = Gauge("queue_paused", "1 if the queue is paused.", _QUEUE)
    dead = Gauge("dead_letters", "Dead letters that were not replayed.", _QUEUE)
    for report in reports:
        counts, name = report.counts, report.name
        ready.add(counts.ready, name)
        running.add(counts.running, name)
        lost.add(counts.lost, name)
        delayed.add(report.delayed, name)
        for reason, number in (("retry", counts.held), ("stopped", counts.stopped), ("order", counts.ordered)):
            blocked.add(number, name, reason)
        parked.add(counts.parked, name)
        oldest.add(0.0 if counts.oldest is None else max(0.0, now - counts.oldest), name)
        rate.add(report.rate, name)
        workers.add(report.workers, name)
        slots.add(report.slots, name)
        free.add(report.free, name)
        load.add((counts.ready + counts.running) / max(report.slots, 1), name)
        paused.add(report.pauses.whole is not None, name)
        dead.add(report.dead, name)
    return [ready, running, lost, delayed, blocked, parked, oldest, rate, workers, slots, free, load, paused, dead]


def _of_nodes(nodes: Sequence[tuple[Seen, NodeState]], now: float) -> list[Gauge]:
    number = Gauge("nodes", "Nodes that were heard in the last hour.", ("kind", "state"))
    age = Gauge(
        "node_heartbeat_age_seconds", "The time since the last heartbeat of a node that did not leave.", ("node",)
    )
    faults = Gauge("node_faults", "Errors from which a node's threads have gone on.", ("node",))
    skew = Gauge(
        "clock_skew_seconds",
        "The time by which the clock of a living node's machine is ahead of Kafka's; less than 0: behind it.",
        ("node",),
    )
    for (kind, state), count in sorted(Counter((seen.beat.kind, state.value) for seen, state in nodes).items()):
        number.add(count, kind, state)
    # Two incarnations may have one name; the one that was heard last counts.
    for seen in {seen.name: seen for seen, state in nodes if state is not NodeState.LEFT}.values():
        age.add(max(0.0, now - seen.at), seen.name)
        faults.add(seen.beat.faults, seen.name)
    for seen in {seen.name: seen for seen, state in nodes if state is NodeState.ALIVE}.values():
        if seen.beat.clock_ahead is not None:
            skew.add(seen.beat.clock_ahead, seen.name)
    return [number, age, faults, skew]


def _of_entries(overdue: Mapping[str, float]) -> Gauge:
    found = Gauge(
        "periodic_overdue_seconds",
        "The time since a slot of a periodic entry that no beat has fired, while beats live; 0: none is due.",
        ("entry",),
    )
    for entry, seconds in sorted(overdue.items()):
        found.add(seconds, entry)
    return found
