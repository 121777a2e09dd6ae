"""Counters of what tasks come to, from their state records in the order of the log, as Prometheus takes them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from kafka_exec.core.results.lifecycle import TERMINAL
from kafka_exec.core.results.state_record import StateRecord

#: The upper bounds of a histogram, seconds.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)

#: Tasks have so many names of their own; those of all others are counted as :data:`OTHER`.
MOST_NAMES = 200
OTHER = "other"

TRANSITIONS = "task_transitions_total"
RUN = "task_run_seconds"
WAIT = "task_wait_seconds"

#: The metrics of tasks, each with its labels and its meaning.
METRICS = {
    TRANSITIONS: (
        ("queue", "task", "previous", "state"),
        "State records of tasks since the exporter began; `previous` is empty for the first record of a task.",
    ),
    RUN: (("queue", "task"), "The time of a task's last run, from its start to its end (histogram)."),
    WAIT: (
        ("queue", "task"),
        "The time from when a task was sent, or was due, to its start, if it ended in its first run (histogram).",
    ),
}

#: The labels of a histogram: queue and task.
_Of = tuple[str, str]


@dataclass
class Durations:
    """A histogram. ``counts``: by bucket, the last one without a bound; ``total``: the sum, seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts a duration. A clock that was set back has no negative ones."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += max(0.0, seconds)

    def buckets(self) -> list[tuple[str, float]]:
        """The bounds, and how many durations are not longer, as Prometheus counts them."""
        found, sum_so_far = [], 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            sum_so_far += count
            found.append((bound, float(sum_so_far)))
        return found


class TaskCounters:
    """The counters of all tasks.

    Attributes:
        transitions: the number of records by queue, task, previous state and state.
        runs, waits: the durations of runs, and of what came before them.
    """

    def __init__(self) -> None:
        self.transitions: Counter[tuple[str, str, str, str]] = Counter()
        self.runs: dict[_Of, Durations] = defaultdict(Durations)
        self.waits: dict[_Of, Durations] = defaultdict(Durations)
        self._names: set[str] = set()

    def take(self, record: StateRecord) -> None:
        """Counts a record."""
        of = (record.queue or "", self._label(record.name or ""))
        previous = "" if record.previous is None else record.previous.value
        transition = (*of, previous, record.state.value)
        self.transitions[transition] += 1
        if record.state not in TERMINAL or record.started is None or record.finished is None:
            return
        self.runs[of].add(record.finished - record.started)
        if record.attempts == 1 and record.created is not None:
            self.waits[of].add(record.started - max(record.created, record.due or 0.0))

    def _label(self, name: str) -> str:
        if name not in self._names and len(self._names) >= MOST_NAMES:
            return OTHER
        self._names.add(name)
        return name
