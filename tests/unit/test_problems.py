"""The problems that need an operator: each by its own line, and none where all is well."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kafka_exec.core.nodes.heartbeat import Heartbeat, NodeState, Seen
from kafka_exec.core.overview.counts import QueueCounts
from kafka_exec.core.overview.problems import FORGOTTEN, LATE, Severity, problems
from kafka_exec.core.overview.queues import QueueReport, QueueState
from kafka_exec.core.queue.pausing import Pause, QueuePauses

NOW = 1000.0
QUEUE = QueueReport("q", QueueCounts(ready=1, running=2, oldest=NOW - 1), workers=1, slots=4, busy=2)
PAUSE = Pause("ann", NOW - FORGOTTEN)
FORGOTTEN_PAUSE = Pause("ann", NOW - 2.6 * FORGOTTEN)
BEAT = Heartbeat("i", "here", 1, kind="worker", version="1", delays=True)
NODE = (Seen("w@h", BEAT, NOW), NodeState.ALIVE)

Nodes = tuple[tuple[Seen, NodeState], ...]


def node(name: str = "w@h", state: NodeState = NodeState.ALIVE, **changes: object) -> tuple[Seen, NodeState]:
    return Seen(name, replace(BEAT, **{"incarnation": f"{name} {changes}", **changes}), NOW), state  # type: ignore[arg-type]


def test_where_all_is_well_there_is_none() -> None:
    assert problems([QUEUE, replace(QUEUE, delayed=3)], [NODE, node("gone@h", NodeState.LEFT)], NOW) == []
    assert problems([], [], NOW) == []


@pytest.mark.parametrize(
    ("queue", "nodes", "severity", "text"),
    [
        (replace(QUEUE, workers=0), (NODE,), Severity.WRONG, "3 tasks wait in q, and no worker reads it"),
        (
            replace(QUEUE, counts=QueueCounts(ready=1, oldest=NOW - LATE - 1)),
            (NODE,),
            Severity.WARNING,
            "the first ready task of q has waited for 301 s; 2 of 4 slots are free",
        ),
        (
            replace(QUEUE, counts=QueueCounts(stopped=2)),
            (NODE,),
            Severity.WRONG,
            "2 tasks of q wait for ordering keys that a failure has stopped",
        ),
        (replace(QUEUE, dead=5), (NODE,), Severity.WARNING, "q has 5 dead letters"),
        (
            replace(QUEUE, workers=0, pauses=QueuePauses(FORGOTTEN_PAUSE)),
            (NODE,),
            Severity.WARNING,
            "q was paused by ann 3 days ago",
        ),
        (
            replace(QUEUE, pauses=QueuePauses(keys={"k": FORGOTTEN_PAUSE, "l": PAUSE})),
            (NODE,),
            Severity.WARNING,
            "key k of q was paused by ann 3 days ago",
        ),
        (
            replace(QUEUE, delayed=3),
            (node(delays=False), node("lost@h", NodeState.LEFT)),
            Severity.WRONG,
            "3 tasks wait for their time, and no node moves them to their queues then",
        ),
        (QUEUE, (NODE, node("b@h", NodeState.LOST)), Severity.WARNING, "b@h is lost: it did not say goodbye"),
        (QUEUE, (NODE, node(pid=2)), Severity.WARNING, "several living nodes are named w@h"),
        (QUEUE, (NODE, node("b@h", version="2")), Severity.WARNING, "nodes run different versions: 1, 2"),
        (QUEUE, (node(faults=3),), Severity.WARNING, "threads of w@h have gone on from 3 errors"),
    ],
)
def test_each_problem_is_told_by_its_own_line(queue: QueueReport, nodes: Nodes, severity: Severity, text: str) -> None:
    (found,) = problems([queue], nodes, NOW)
    assert found[:2] == (severity, text)
    assert found.command.startswith("celery ")


@pytest.mark.parametrize("pause", [PAUSE, FORGOTTEN_PAUSE._replace(until=NOW + 1)])
def test_a_pause_of_today_or_with_an_end_is_none_and_explains_what_waits(pause: Pause) -> None:
    waits = QueueReport("q", QueueCounts(ready=5, oldest=NOW - LATE - 1), pauses=QueuePauses(pause))
    assert waits.state is QueueState.PAUSED
    assert problems([waits, replace(waits, workers=1, slots=4)], [NODE], NOW) == []


def test_a_lost_node_that_is_back_is_none() -> None:
    assert problems([QUEUE], [NODE, node(NODE[0].name, NodeState.LOST, pid=2)], NOW) == []


def test_the_severe_ones_come_first() -> None:
    found = problems([replace(QUEUE, dead=1), replace(QUEUE, name="r", workers=0)], [NODE], NOW)
    assert [each.severity for each in found] == [Severity.WRONG, Severity.WARNING]
