"""The plan of a queue: the slots, workers, partitions and disk that its tasks need, each with what it follows from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.overview.planning.amounts import duration_of, number_of, size_of

#: The bytes of a task with two numbers as arguments: of its message, its journal records, its state with its result.
MESSAGE, JOURNAL, STATE = 890.0, 80.0, 570.0

#: So many times the slots that are busy on the average: for the busiest seconds, and for a worker that is away.
SPARE = 1.5

#: One worker hands so many empty tasks a second to its pool; measured were 1,662 on two cores.
A_WORKER = 1000.0

#: Workers at least: one may be away.
FEWEST = 2

#: Partitions for each worker. Those with ordering keys cannot be added later, so there are more of them.
PER_WORKER, PER_WORKER_KEYED = 2, 4

_DAY = 86400.0

#: The broadcasts that workers and beats use: events, remote control, its replies, and what is sent to all of them.
_EXCHANGES = 4

#: The topics of a prefix with one partition each: bindings, nodes, revoked, claims, entries.
_SINGLE = 5


@dataclass(frozen=True)
class Demand:
    """The tasks that come to a queue.

    Attributes:
        rate, peak: the messages a second: on the average, and in the busiest minute.
        run: the seconds of a run, on the average.
        message, state: the bytes of a message, and of the state that is kept for it.
        keys: the number of ordering keys; None: not all tasks have one.
        busiest: the messages a second of the key that has the most of them.
        waiting: the messages that wait now; None: as many as come in an hour.
    """

    rate: float
    peak: float
    run: float
    message: float = MESSAGE
    state: float = STATE
    keys: int | None = None
    busiest: float = 0.0
    waiting: int | None = None


@dataclass(frozen=True)
class PlanTerms:
    """The terms of a plan.

    Attributes:
        slots: of one worker.
        kept: the seconds for which messages and their journal are kept after their end.
        states_kept: the same of states; None: they are never deleted.
        replicas: of each partition.
    """

    slots: int
    kept: float
    states_kept: float | None
    replicas: int


class Figure(NamedTuple):
    """A figure of a plan. ``reason``: what it follows from; ``now``: what there is; None: that was not looked for."""

    name: str
    value: float
    reason: str
    now: float | None = None


class Present(NamedTuple):
    """The present state of a queue."""

    running: int
    slots: int
    workers: int
    partitions: int


@dataclass(frozen=True)
class QueuePlan:
    """The figures of a plan, and what makes it impossible."""

    figures: list[Figure]
    obstacles: list[str]

    def __getitem__(self, name: str) -> float:
        return next(each.value for each in self.figures if each.name == name)

    def facts(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        figures = {each.name: {"value": each.value, "now": each.now, "reason": each.reason} for each in self.figures}
        return {"figures": figures, "obstacles": self.obstacles}


def plan(demand: Demand, terms: PlanTerms, settings: Settings, present: Present | None = None) -> QueuePlan:
    """The plan for a queue. ``settings``: those of the app, for the topics that all its queues share."""
    busy = demand.peak * demand.run
    slots = max(1, math.ceil(busy * SPARE))
    workers = max(FEWEST, math.ceil(slots / terms.slots), math.ceil(demand.peak * SPARE / A_WORKER))
    partitions, why = _partitions(workers, demand.keys)
    topics, shared = _shared(settings)
    figures = [
        Figure("running", busy, f"{number_of(demand.peak)} tasks/s of {number_of(demand.run)} s each (Little's law)"),
        Figure("slots", slots, f"{number_of(busy)} tasks at once, and half as many again for peaks and a lost worker"),
        Figure("workers", workers, _why_workers(workers, slots, demand, terms)),
        Figure("partitions", partitions, why),
        Figure("topics", topics + 2, f"{topics} of the prefix, the queue's and its journal's"),
        Figure("all_partitions", shared + 2 * partitions, f"{shared} of the prefix, and 2 x {partitions}"),
        *_disk(demand, terms),
        *_drain(demand, workers * terms.slots, workers),
    ]
    if present is not None:
        now = present._asdict()
        figures = [each._replace(now=now.get(each.name)) for each in figures]
    return QueuePlan(figures, list(_obstacles(demand)))


def _why_workers(workers: int, slots: int, demand: Demand, terms: PlanTerms) -> str:
    if workers == math.ceil(slots / terms.slots):
        return f"{slots} slots, {terms.slots} in each worker"
    if workers == FEWEST:
        return "one may be away"
    return f"{number_of(demand.peak)} tasks/s and half as many again, of which one worker begins {number_of(A_WORKER)}"


def _partitions(workers: int, keys: int | None) -> tuple[int, str]:
    """The number of partitions, a power of two, and its reason."""
    each = PER_WORKER if keys is None else PER_WORKER_KEYED
    wanted = _power_of_two(each * workers)
    if keys is not None and keys < wanted:
        return keys, "as many as ordering keys: the tasks of one are in one partition"
    later = "more can be added later" if keys is None else "those added later are not used by ordering keys"
    return wanted, f"{each} for each of {workers} workers, as a power of two; {later}"


def _power_of_two(number: int) -> int:
    """The smallest power of two that is not less than a number."""
    return 1 << (number - 1).bit_length()


def _shared(settings: Settings) -> tuple[int, int]:
    """The topics that the queues of an app with results, a beat and remote control share, and their partitions."""
    of = settings.partitions_of
    several = [of("state"), *2 * [of("control")], *2 * [of("delay")], *_EXCHANGES * [of("exchange")]]
    return len(several) + _SINGLE, sum(several) + _SINGLE


def _disk(demand: Demand, terms: PlanTerms) -> list[Figure]:
    """The bytes on the disks of all brokers."""
    rate, copies = demand.rate, terms.replicas

    def part(name: str, each: float, kept: float | None) -> Figure:
        lasting = "a day, and so much more each day, for they are never deleted" if kept is None else duration_of(kept)
        reason = f"{number_of(rate)} tasks/s x {size_of(each)} x {copies} replicas x {lasting}"
        return Figure(name, rate * each * copies * (_DAY if kept is None else kept), reason)

    parts = [
        part("disk_messages", demand.message, terms.kept),
        part("disk_journal", JOURNAL, terms.kept),
        part("disk_states", demand.state, terms.states_kept),
    ]
    total = sum(each.value for each in parts)
    return [*parts, Figure("disk", total, "all three, on all brokers together, without compression")]


def _drain(demand: Demand, slots: int, workers: int) -> list[Figure]:
    """The time in which the workers catch up; no figure if they never do."""
    most = [workers * A_WORKER]
    if demand.run:
        at_once = slots if demand.keys is None else min(slots, demand.keys)
        most.append(at_once / demand.run)
    spare = min(most) - demand.rate
    waiting = demand.rate * 3600 if demand.waiting is None else demand.waiting
    if spare <= 0:
        return []
    what = "an hour's tasks" if demand.waiting is None else f"{demand.waiting} tasks that wait"
    return [Figure("drain", waiting / spare, f"{what}, and {number_of(spare)} tasks/s more than come")]


def _obstacles(demand: Demand) -> Iterator[str]:
    """The demands that no number of workers meets."""
    keys, run = demand.keys, demand.run
    if keys is not None and demand.peak * run > keys:
        yield (
            f"{keys} ordering keys run {keys} tasks at once, that is {number_of(keys / run)} a second, and "
            f"{number_of(demand.peak)} come: use more keys, or make the tasks shorter"
        )
    elif demand.busiest * run > 1:
        yield (
            f"one ordering key has {number_of(demand.busiest)} tasks/s, and runs {number_of(1 / run)}, for they run one "
            "after another: use several keys in its place, or make its tasks shorter"
        )
