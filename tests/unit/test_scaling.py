"""The number of workers in Kubernetes: what KEDA makes of docker/k8s/scale.yaml and the exporter's metrics, in a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

import pytest
import yaml

from kafka_exec.core.overview.counts import QueueCounts
from kafka_exec.core.overview.queues import QueueReport
from tests.snippets import ROOT
from tests.unit.promql import evaluate
from tests.unit.scraping import MINUTE, World, history

FOLDER = ROOT / "docker" / "k8s"
SCALER = yaml.safe_load((FOLDER / "scale.yaml").read_text())["spec"]
(TRIGGER,) = (each["metadata"] for each in SCALER["triggers"])
BEHAVIOUR = SCALER["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
POD = next(yaml.safe_load_all((FOLDER / "worker.yaml").read_text()))["spec"]["template"]["spec"]

SLOTS = int(TRIGGER["threshold"])

#: Kubernetes' own: the autoscaler decides so often. A pod takes so long until its worker reads the queue, let us say.
SYNC, START = 15, 15


def value(counts: QueueCounts) -> float:
    """The answer of Prometheus to KEDA's query."""
    report = QueueReport("celery_app", counts, workers=0, slots=0)
    return sum(evaluate(TRIGGER["query"], history((MINUTE, World((report,))))).values())


def wanted(metric: float) -> int:
    """The workers that KEDA wants: none, or as many as the autoscaler computes."""
    if metric <= float(TRIGGER["activationThreshold"]):
        return int(SCALER["minReplicaCount"])
    return min(max(1, ceil(metric / SLOTS)), int(SCALER["maxReplicaCount"]))


@pytest.mark.parametrize(
    ("counts", "workers"),
    [
        (QueueCounts(), 0),
        (QueueCounts(ready=1), 1),
        (QueueCounts(ready=5), 3),
        (QueueCounts(ready=999), 8),
        # Whatever runs keeps its worker, and what has lost it gets another one.
        (QueueCounts(running=1), 1),
        (QueueCounts(lost=1), 1),
        # Nobody can help those that wait for others, or for an operator.
        (QueueCounts(stopped=4, held=3, parked=2), 0),
    ],
)
def test_there_are_as_many_workers_as_tasks_need_and_none_only_if_nothing_runs(
    counts: QueueCounts, workers: int
) -> None:
    assert wanted(value(counts)) == workers


def test_workers_stay_if_nobody_knows_what_runs() -> None:
    assert evaluate(TRIGGER["query"], history((MINUTE, World(None)))) == {}
    assert TRIGGER["ignoreNullValues"] == "false"
    assert SCALER["fallback"]["replicas"] > 0


@dataclass
class Worker:
    """A worker's pod. ``told``: when it was told to stop; then it begins nothing, and is killed after its grace period."""

    begun: int
    ends: list[int] = field(default_factory=list)
    told: int | None = None


@dataclass
class Cluster:
    """A queue and its workers, second by second, under the rules of KEDA and of the autoscaler."""

    waiting: list[int]
    lasting: int
    now: int = 0
    workers: list[Worker] = field(default_factory=list)
    longest_wait: int = 0
    most: int = 0
    killed: int = 0
    _last_active: int = 0
    _wishes: list[tuple[int, int]] = field(default_factory=list)
    _shrunk: int = -MINUTE

    @property
    def staying(self) -> list[Worker]:
        return [each for each in self.workers if each.told is None]

    def run(self, until: int) -> None:
        while self.now < until:
            self._work()
            if self.now % SCALER["pollingInterval"] == 0 or self.now % SYNC == 0:
                running = sum(len(each.ends) for each in self.workers)
                self._scale(value(QueueCounts(ready=len(self.waiting), running=running)))
            self.most = max(self.most, len(self.staying))
            self.now += 1

    def _work(self) -> None:
        for worker in self.workers:
            worker.ends = [end for end in worker.ends if end > self.now]
            if worker.told is None and self.now >= worker.begun + START:
                while self.waiting and len(worker.ends) < SLOTS:
                    self.longest_wait = max(self.longest_wait, self.now - self.waiting.pop(0))
                    worker.ends.append(self.now + self.lasting)
            if worker.told is not None and self.now >= worker.told + POD["terminationGracePeriodSeconds"]:
                self.killed += len(worker.ends)
                worker.ends = []
        self.workers = [each for each in self.workers if each.told is None or each.ends]

    def _scale(self, metric: float) -> None:
        number = len(self.staying)
        if metric > float(TRIGGER["activationThreshold"]):
            self._last_active = self.now
        if number == 0:
            self._go_to(wanted(metric) and 1)
        elif self.now - self._last_active >= SCALER["cooldownPeriod"]:
            self._go_to(0)
        elif self.now % SYNC == 0:
            self._wishes.append((self.now, max(1, wanted(metric))))
            down, up = BEHAVIOUR["scaleDown"], BEHAVIOUR["scaleUp"]
            begin = self.now - down["stabilizationWindowSeconds"]
            wish = max(each for at, each in self._wishes if at >= begin)
            if wish > number:
                self._go_to(min(wish, number + up["policies"][0]["value"]))
            elif wish < number and self.now - self._shrunk >= down["policies"][0]["periodSeconds"]:
                self._shrunk = self.now
                self._go_to(number - down["policies"][0]["value"])

    def _go_to(self, number: int) -> None:
        staying = self.staying
        # Kubernetes does not know which ones are busy: the busiest one is the worst choice.
        for worker in sorted(staying, key=lambda each: -len(each.ends))[: max(0, len(staying) - number)]:
            worker.told = self.now
        self.workers += [Worker(self.now) for _ in range(number - len(staying))]


def sent(number: int) -> list[int]:
    return [1] * number


@pytest.mark.parametrize("tasks", [1, 12, 16])
def test_workers_come_for_tasks_of_a_minute_go_to_none_afterwards_and_kill_nothing(tasks: int) -> None:
    cluster = Cluster(sent(tasks), lasting=60)
    cluster.run(60 * MINUTE)
    assert (cluster.waiting, cluster.workers, cluster.killed) == ([], [], 0)
    assert cluster.most == ceil(tasks / SLOTS)
    assert cluster.longest_wait <= SCALER["pollingInterval"] + START + SYNC + START


@pytest.mark.parametrize("until", [30, 60])
def test_a_worker_stays_for_as_long_as_its_task_runs(until: int) -> None:
    cluster = Cluster(sent(1), lasting=45 * MINUTE)
    cluster.run(until * MINUTE)
    assert (len(cluster.workers), cluster.killed) == (int(until < 45), 0)
