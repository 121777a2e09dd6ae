"""The alert rules and the dashboard of docker/monitoring: each rule fires on what it is for, and no other one does."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import yaml

from kafka_exec.core.nodes.heartbeat import Heartbeat, NodeState, Seen
from kafka_exec.core.overview.counts import QueueCounts
from kafka_exec.core.overview.metrics import PREFIX, gauges
from kafka_exec.core.overview.queues import QueueReport
from kafka_exec.core.queue.pausing import Pause, QueuePauses
from kafka_exec.kafka.nodes.metrics_port import METRICS as PROCESS_METRICS
from tests.snippets import ROOT, anchors
from tests.unit.promql import Scrape, evaluate, seconds
from tests.unit.scraping import MINUTE, NOW, World, history

HOUR, DAY = 3600, 86400

MONITORING = ROOT / "docker" / "monitoring"
RUNBOOK = ROOT / "docs" / "operations.md"
BOARD = json.loads((MONITORING / "grafana" / "dashboard.json").read_text())
(GROUP,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in GROUP["rules"]}


def fires(rule: dict[str, Any], scrapes: Sequence[Scrape]) -> bool:
    """True if the rule's expression has held for one set of labels throughout its ``for``, up to the last scrape."""
    begin = scrapes[-1].at - (seconds(rule["for"]) if "for" in rule else 0.0)
    if begin < 0:
        return False
    ends = [number for number, scrape in enumerate(scrapes, start=1) if scrape.at >= begin]
    held: set[Any] | None = None
    for end in reversed(ends):
        found = set(evaluate(rule["expr"], scrapes[:end]))
        held = found if held is None else held & found
        if not held:
            return False
    return True


def fired(*phases: tuple[float, World]) -> set[str]:
    """The alerts that fire at the end of a history."""
    scrapes = history(*phases)
    return {name for name, rule in ALERTS.items() if fires(rule, scrapes)}


# -- the states --------------------------------------------------------------------------------------------------------


def node(kind: str, state: NodeState = NodeState.ALIVE, faults: int = 0, ahead: float = 0.2) -> tuple[Seen, NodeState]:
    beat = Heartbeat("i", "here", 1, kind=kind, faults=faults, clock_ahead=ahead)
    return Seen(f"{kind}-{state.value}", beat, NOW - 1), state


COUNTS = QueueCounts(ready=1, running=1, ordered=2, held=1, parked=1, oldest=NOW - 5)
QUEUE = QueueReport("mail", COUNTS, delayed=2, dead=3, workers=2, slots=4, busy=1, rate=1.5)
NODES = (node("worker"), node("beat"))
HEALTHY = World((QUEUE,), NODES, (("nightly", 0.0), ("often", 4.0)))
#: No worker, since there is nothing to do.
AT_REST = World((QueueReport("mail", QueueCounts(), delayed=2, dead=3),), (node("control-plane"), node("beat")))

WAITING = replace(COUNTS, oldest=NOW - 400)
UNREAD = replace(QUEUE, workers=0, slots=0, busy=0)
PAUSED = replace(QUEUE, pauses=QueuePauses(Pause("ann", NOW)))


def of(report: QueueReport, *nodes: tuple[Seen, NodeState]) -> World:
    return World((report,), nodes or NODES, HEALTHY.overdue)


def but(counts: QueueCounts, report: QueueReport = QUEUE) -> World:
    return of(replace(report, counts=counts))


def after(world: World, lasting: float = 10 * MINUTE) -> list[tuple[float, World]]:
    """Half an hour in which all is well, and then another state."""
    return [(30 * MINUTE, HEALTHY), (lasting, world)]


PLANTED = {
    "KafkaExecExporterMissing": after(World(is_served=False)),
    "KafkaExecUnreachable": after(World(None)),
    "KafkaExecNoWorkers": after(of(replace(UNREAD, counts=WAITING), node("control-plane"), node("beat"))),
    "KafkaExecQueueStalled": after(but(WAITING)),
    "KafkaExecQueueBehind": after(but(WAITING, replace(QUEUE, busy=4))),
    "KafkaExecRunsLost": after(but(replace(COUNTS, lost=1))),
    "KafkaExecKeyStopped": after(but(replace(COUNTS, stopped=1))),
    "KafkaExecKeyWaits": after(HEALTHY, HOUR),
    "KafkaExecDeadLetters": after(of(replace(QUEUE, dead=4)), 5 * MINUTE),
    "KafkaExecQueuePaused": after(of(replace(PAUSED, counts=replace(WAITING, held=0), busy=4)), DAY + HOUR),
    "KafkaExecDelaysStand": after(of(replace(UNREAD, counts=QueueCounts()), node("beat"))),
    "KafkaExecNoBeat": after(of(replace(QUEUE, counts=QueueCounts()), node("worker")), 3 * HOUR),
    "KafkaExecPeriodicOverdue": after(replace(HEALTHY, overdue=(("nightly", 0.0), ("often", 90.0)))),
    "KafkaExecClockSkew": after(of(QUEUE, node("worker", ahead=-1.5), node("beat"))),
    "KafkaExecPublishErrors": after(replace(HEALTHY, errors=2), 5 * MINUTE),
    "KafkaExecConsumerStands": after(replace(HEALTHY, turn_age=120.0), 5 * MINUTE),
    "KafkaExecNodeLost": after(of(QUEUE, *NODES, node("worker", NodeState.LOST))),
    "KafkaExecNodeFaults": after(of(QUEUE, node("worker", faults=1), node("beat")), 5 * MINUTE),
}
WELL = {
    "work": [(30 * MINUTE, HEALTHY)],
    "rest": [(30 * MINUTE, HEALTHY), (DAY, AT_REST)],
    "from none to the first worker": [(HOUR, AT_REST), (3 * MINUTE, of(UNREAD, node("control-plane"), node("beat")))],
    "all slots are taken": [(30 * MINUTE, of(replace(QUEUE, busy=4)))],
    "a deploy": [(25 * MINUTE, HEALTHY), (MINUTE, of(QUEUE, node("worker"), node("worker", NodeState.LEFT)))],
    "letters are replayed": [(25 * MINUTE, HEALTHY), (5 * MINUTE, of(replace(QUEUE, dead=0)))],
    "a pause": [(25 * MINUTE, HEALTHY), (30 * MINUTE, of(replace(PAUSED, counts=WAITING)))],
    "a pause without workers": [
        (25 * MINUTE, HEALTHY),
        (30 * MINUTE, of(replace(PAUSED, counts=WAITING, workers=0, slots=0), node("control-plane"), node("beat"))),
    ],
    "no beat ever": [(DAY, of(replace(QUEUE, counts=QueueCounts()), node("worker")))],
    "one beat of two leaves": [(25 * MINUTE, HEALTHY), (5 * MINUTE, of(QUEUE, *NODES, node("beat", NodeState.LEFT)))],
    "a process that could not publish starts anew": [(25 * MINUTE, replace(HEALTHY, errors=5)), (5 * MINUTE, HEALTHY)],
    "errors of long ago": [(5 * MINUTE, HEALTHY), (25 * MINUTE, replace(HEALTHY, errors=2))],
    "a takeover": [(25 * MINUTE, HEALTHY), (MINUTE, replace(HEALTHY, turn_age=50.0)), (MINUTE, HEALTHY)],
    "a beat that is lost is taken over from": [
        (25 * MINUTE, HEALTHY),
        (2 * MINUTE, replace(HEALTHY, overdue=(("nightly", 0.0), ("often", 90.0)))),
        (5 * MINUTE, HEALTHY),
    ],
    "an outage of a minute": [(25 * MINUTE, HEALTHY), (MINUTE, World(None))],
}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_fires_on_what_it_is_for_and_no_other_does(name: str) -> None:
    assert fired(*PLANTED[name]) == {name}


@pytest.mark.parametrize("state", WELL)
def test_nothing_fires_where_all_is_well(state: str) -> None:
    assert fired(*WELL[state]) == set()


def test_a_lost_run_that_no_worker_can_begin_again_is_told_too() -> None:
    lost = replace(UNREAD, counts=QueueCounts(lost=1))
    assert fired(*after(of(lost, node("control-plane"), node("beat")))) == {"KafkaExecNoWorkers"}


def test_each_alert_has_a_summary_a_severity_and_a_runbook_and_each_runbook_an_alert() -> None:
    page = RUNBOOK.read_text(encoding="utf-8")
    for name, rule in ALERTS.items():
        assert rule["annotations"]["summary"].endswith("."), name
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert name.lower() in anchors(page), f"{name} has no runbook"
    assert set(re.findall(r"^### (KafkaExec\w+)$", page, re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("path", ["monitoring/alerts.yaml", "monitoring/grafana/dashboard.json", "k8s/scale.yaml"])
def test_the_metrics_exist(path: str) -> None:
    known = {PREFIX + name for name in ("up", *PROCESS_METRICS, *(gauge.name for gauge in gauges((), (), {}, 0.0)))}
    named = set(re.findall(rf"\b{PREFIX}\w+", (ROOT / "docker" / path).read_text()))
    assert named
    assert named <= known


def test_each_panel_of_the_dashboard_shows_something_and_its_legend_names_labels() -> None:
    counts = replace(WAITING, lost=1, stopped=1)
    scrapes = history((MINUTE, of(replace(PAUSED, counts=counts), *NODES, node("worker", NodeState.LOST))))
    targets = [target for panel in BOARD["panels"] for target in panel["targets"]]
    assert targets
    for target in targets:
        found = evaluate(target["expr"].replace("$queue", "mail|sms"), scrapes)
        assert found, target["expr"]
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert all(named <= set(dict(labels)) for labels in found), target["expr"]


def test_the_dashboard_names_its_source_of_data_as_it_is_provisioned() -> None:
    (source,) = yaml.safe_load((MONITORING / "grafana" / "datasource.yaml").read_text())["datasources"]
    variable = next(each for each in BOARD["templating"]["list"] if each["name"] == "source")
    assert (variable["type"], variable["current"]["value"]) == ("datasource", source["uid"])
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {"${source}"}
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
