"""The problems of a prefix that need an operator, from what waits in its queues and from its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from kafka_exec.core.nodes.heartbeat import NodeState, Seen
from kafka_exec.core.overview.queues import QueueReport, QueueState

#: A ready task that has waited for so many seconds is a problem.
LATE = 300.0

_DAY = 86400.0

#: A pause without an end may have been forgotten after so many seconds.
FORGOTTEN = _DAY


class Severity(Enum):
    """The severity of a problem."""

    #: Tasks do not run.
    WRONG = "wrong"
    #: It may be as it should, or pass by itself.
    WARNING = "warning"
    #: It is as it should be.
    OK = "ok"


class Problem(NamedTuple):
    """A problem, and the command that helps or shows more; empty: there is none."""

    severity: Severity
    text: str
    command: str


def problems(reports: Iterable[QueueReport], nodes: Sequence[tuple[Seen, NodeState]], now: float) -> list[Problem]:
    """The problems of now (epoch seconds), the severe ones first."""
    known = list(reports)
    found = [*_of_queues(known, now), *_of_delays(known, nodes), *_of_nodes(nodes)]
    return sorted(found, key=lambda each: each.severity is not Severity.WRONG)


def _of_queues(reports: Iterable[QueueReport], now: float) -> Iterator[Problem]:
    for report in reports:
        name, counts = report.name, report.counts
        yield from _of_pauses(report, now)
        if report.state is QueueState.NO_WORKERS:
            yield Problem(
                Severity.WRONG,
                f"{counts.total} tasks wait in {name}, and no worker reads it",
                f"celery -A APP worker -Q {name}",
            )
        elif report.state is not QueueState.PAUSED and counts.oldest is not None and now - counts.oldest > LATE:
            yield Problem(
                Severity.WARNING,
                f"the first ready task of {name} has waited for {now - counts.oldest:.0f} s; {report.free} of "
                f"{report.slots} slots are free",
                f"celery kafka queues {name}",
            )
        if counts.stopped:
            yield Problem(
                Severity.WRONG,
                f"{counts.stopped} tasks of {name} wait for ordering keys that a failure has stopped",
                "celery kafka keys --blocked",
            )
        if report.dead:
            yield Problem(Severity.WARNING, f"{name} has {report.dead} dead letters", f"celery kafka dead list {name}")


def _of_pauses(report: QueueReport, now: float) -> Iterator[Problem]:
    name, pauses = report.name, report.pauses
    found = [] if pauses.whole is None else [(name, "", pauses.whole)]
    found += [(f"key {key} of {name}", f" --key {key}", pause) for key, pause in pauses.keys.items()]
    for what, option, pause in found:
        if pause.until is None and now - pause.at > FORGOTTEN:
            yield Problem(
                Severity.WARNING,
                f"{what} was paused by {pause.by} {(now - pause.at) / _DAY:.0f} days ago",
                f"celery kafka queues resume {name}{option}",
            )


def _of_delays(reports: Iterable[QueueReport], nodes: Sequence[tuple[Seen, NodeState]]) -> Iterator[Problem]:
    delayed = sum(report.delayed for report in reports)
    is_driven = any(state is NodeState.ALIVE and seen.beat.delays for seen, state in nodes)
    if delayed and not is_driven:
        yield Problem(
            Severity.WRONG,
            f"{delayed} tasks wait for their time, and no node moves them to their queues then",
            "celery kafka control-plane",
        )


def _of_nodes(nodes: Sequence[tuple[Seen, NodeState]]) -> Iterator[Problem]:
    names = {seen.name for seen, state in nodes if state is NodeState.ALIVE}
    for name in sorted({seen.name for seen, state in nodes if state is NodeState.LOST} - names):
        yield Problem(Severity.WARNING, f"{name} is lost: it did not say goodbye", "celery kafka nodes")
    alive = [seen for seen, state in nodes if state is NodeState.ALIVE]
    for name in sorted({name for name in names if sum(seen.name == name for seen in alive) > 1}):
        yield Problem(Severity.WARNING, f"several living nodes are named {name}", "celery worker -n NAME")
    if len(versions := sorted({seen.beat.version or "older" for seen in alive})) > 1:
        yield Problem(Severity.WARNING, f"nodes run different versions: {', '.join(versions)}", "celery kafka nodes")
    for seen in alive:
        if seen.beat.faults:
            yield Problem(
                Severity.WARNING,
                f"threads of {seen.name} have gone on from {seen.beat.faults} errors",
                f"celery -A APP inspect stats -d {seen.name}",
            )
