"""The gauges of an operator's view: each moves with what it counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kafka_exec.beat.periodic import Periodic
from kafka_exec.core.beat.claimlog import Standing
from kafka_exec.core.nodes.heartbeat import Heartbeat, NodeState, Seen
from kafka_exec.core.overview.counts import QueueCounts
from kafka_exec.core.overview.metrics import gauges
from kafka_exec.core.overview.queues import QueueReport
from kafka_exec.core.queue.pausing import Pause, QueuePauses
from kafka_exec.errors import ConnectionFailed
from kafka_exec.operations.metrics import TopicMetrics

NOW = 1000.0
EMPTY = QueueReport("q", QueueCounts())
BEAT = Heartbeat("i", "here", 1, kind="worker", faults=3)
NODE = (Seen("w@h", BEAT, NOW - 2), NodeState.ALIVE)

Samples = dict[tuple[str, ...], float]


def samples(report: QueueReport, *nodes: tuple[Seen, NodeState]) -> Samples:
    """All samples, by the metric's name and its labels."""
    found = gauges([report], nodes, {}, NOW)
    return {(gauge.name, *labels): value for gauge in found for labels, value in gauge.samples}


@pytest.mark.parametrize(
    ("report", "moved"),
    [
        (replace(EMPTY, counts=QueueCounts(ready=3)), {("queue_ready", "q"): 3, ("queue_load", "q"): 3}),
        (replace(EMPTY, counts=QueueCounts(running=2), slots=4), {
            ("queue_running", "q"): 2, ("queue_load", "q"): 0.5, ("queue_slots", "q"): 4, ("queue_slots_free", "q"): 4,
        }),
        (replace(EMPTY, counts=QueueCounts(lost=1)), {("queue_runs_lost", "q"): 1}),
        (replace(EMPTY, delayed=7), {("queue_delayed", "q"): 7}),
        (replace(EMPTY, counts=QueueCounts(held=1)), {("queue_blocked", "q", "retry"): 1}),
        (replace(EMPTY, counts=QueueCounts(stopped=2)), {("queue_blocked", "q", "stopped"): 2}),
        (replace(EMPTY, counts=QueueCounts(ordered=3)), {("queue_blocked", "q", "order"): 3}),
        (replace(EMPTY, counts=QueueCounts(parked=2)), {("queue_parked", "q"): 2}),
        (replace(EMPTY, counts=QueueCounts(oldest=NOW - 60)), {("queue_oldest_ready_seconds", "q"): 60}),
        (replace(EMPTY, rate=1.5), {("queue_rate", "q"): 1.5}),
        (replace(EMPTY, workers=2), {("queue_workers", "q"): 2}),
        (replace(EMPTY, slots=4, busy=1), {("queue_slots", "q"): 4, ("queue_slots_free", "q"): 3}),
        (replace(EMPTY, pauses=QueuePauses(Pause("ann", 1.0))), {("queue_paused", "q"): 1}),
        (replace(EMPTY, pauses=QueuePauses(keys={"k": Pause("ann", 1.0)})), {}),
        (replace(EMPTY, dead=5), {("dead_letters", "q"): 5}),
    ],
)  # fmt: skip
def test_a_gauge_of_a_queue_moves_with_what_it_counts_and_no_other_does(report: QueueReport, moved: Samples) -> None:
    before = samples(EMPTY)
    assert set(before.values()) == {0.0}
    assert samples(report) == {**before, **moved}


def test_nodes_count_by_kind_and_state_and_tell_their_age_and_faults() -> None:
    lost = (Seen("b@h", replace(BEAT, incarnation="j", kind="beat", faults=0), NOW - 50), NodeState.LOST)
    left = (Seen("gone@h", replace(BEAT, incarnation="k"), NOW - 9), NodeState.LEFT)
    found = {place: value for place, value in samples(EMPTY, NODE, lost, left).items() if place[0].startswith("node")}
    assert found == {
        ("nodes", "worker", "alive"): 1,
        ("nodes", "beat", "lost"): 1,
        ("nodes", "worker", "left"): 1,
        ("node_heartbeat_age_seconds", "w@h"): 2,
        ("node_heartbeat_age_seconds", "b@h"): 50,
        ("node_faults", "w@h"): 3,
        ("node_faults", "b@h"): 0,
    }


def test_a_clock_is_told_of_nodes_that_live_and_know_it() -> None:
    ahead = (Seen("a@h", replace(BEAT, clock_ahead=-1.5), NOW), NodeState.ALIVE)
    gone = (Seen("b@h", replace(BEAT, incarnation="j", clock_ahead=5.0), NOW - 50), NodeState.LOST)
    found = {place[1:]: value for place, value in samples(EMPTY, NODE, ahead, gone).items() if "clock" in place[0]}
    assert found == {("a@h",): -1.5}


def test_an_overdue_entry_is_told_by_its_name() -> None:
    (found,) = [each for each in gauges((), (), {"often": 90.0, "nightly": 0.0}, NOW) if each.samples]
    assert (found.name, found.samples) == ("periodic_overdue_seconds", [(("nightly",), 0.0), (("often",), 90.0)])


@pytest.mark.parametrize(
    ("next_slot", "held", "handling", "policy", "overdue"),
    [
        (NOW - 90, True, False, {}, 90),
        (NOW + 90, True, False, {}, 0),
        (None, True, False, {}, None),
        (NOW - 90, True, True, {"on_node": True}, 0),  # the next slot waits for the run
        (NOW - 90, False, True, {"on_node": True}, 90),  # its node is lost
        (NOW - 90, True, False, {"catch_up": "skip"}, 0),
        (NOW - 90, True, False, {"overlap": "skip", "catch_up": "one"}, 0),
        (NOW - 90, False, False, {"catch_up": "skip"}, 90),
    ],
)
def test_an_entry_is_overdue_if_somebody_should_have_fired_it(
    next_slot: float | None, held: bool, handling: bool, policy: dict[str, Any], overdue: float | None
) -> None:
    standing = Standing(holder="i", slot=1.0, handling=handling)
    assert Periodic("e", {"policy": policy}, standing, next_slot, held).overdue(NOW) == overdue


def test_of_two_incarnations_of_a_name_the_later_one_counts() -> None:
    later = (Seen("w@h", replace(BEAT, incarnation="j", faults=0), NOW - 1), NodeState.ALIVE)
    assert samples(EMPTY, NODE, later)["node_heartbeat_age_seconds", "w@h"] == 1


class Unreachable(TopicMetrics):
    def read(self, now: float) -> list[Any]:
        raise ConnectionFailed("Kafka does not answer")


def test_if_the_cluster_does_not_answer_the_exporter_says_that_it_is_not_up_and_nothing_else() -> None:
    found = {family.name: [sample.value for sample in family.samples] for family in Unreachable(None).collect()}
    assert found == {"kafka_exec_up": [0.0], "kafka_exec_build": [1.0]}
