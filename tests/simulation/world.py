"""The simulated world: its time, its faults, its clients, and the order in which all threads of all workers go on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from confluent_kafka import KafkaError

from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.worker.sharing import Grant
from tests.simulation import quiet
from tests.simulation.brokers import Group, Log, Record, Said, Task, Topic
from tests.simulation.clock import Scheduler, simulated
from tests.simulation.faults import AIMED, FAULTS, MOMENTS, Faults
from tests.simulation.judge import Judge, Outcome, Violation
from tests.simulation.node import Node

#: How the journal's appends go wrong: they are refused; taken, and the producer hears that they were not; taken after it has
#: given up; or they take seconds.
APPENDS = ("refused", "late", "ghost", "slow", "slow")

#: Records of the queue and of the journal are deleted when they are needed no more, after so many seconds.
_RETENTION = 8.0

#: After the last fault no so many seconds pass in which nothing ends, until all has ended.
_PATIENCE = 60.0

_TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)


class Told(NamedTuple):
    """A record of the journal, and its log time."""

    at: float
    value: bytes


class Stored:
    """The answer to an append."""

    def __init__(self, offset: int) -> None:
        self.offset = lambda: offset


@dataclass(frozen=True)
class Plan:
    """What one simulation is made of. All else comes from the seed.

    Attributes:
        nodes: the number of workers.
        seconds: for so long tasks are sent, and faults happen.
        tasks: the number of tasks.
        faults: the names of faults that happen.
        moment: the moment at which faults are aimed; empty: at none.
        aimed: the names of faults that happen then.
        kinds: the kinds of tasks: ``plain``, ``key``, ``unique``, ``expires``.
        lossy: the share of the journal's appends that go wrong.
        retries, broken: the shares of runs that end in a retry, or are broken off.
        longest: a run takes so many seconds at most.
    """

    seed: int
    nodes: int = 3
    partitions: int = 2
    seconds: float = 30.0
    tasks: int = 40
    faults: tuple[str, ...] = tuple(FAULTS)
    kinds: tuple[str, ...] = ("plain", "key", "unique", "expires")
    lossy: float = 0.05
    retries: float = 0.2
    broken: float = 0.05
    longest: float = 1.0
    moment: str = ""
    aimed: tuple[str, ...] = AIMED

    @classmethod
    def of(cls, seed: int, nodes: int | None = None) -> Plan:
        """A plan with some of all faults, and some kinds of tasks: what never meets in one plan with all may meet here."""
        rng = random.Random(f"plan {seed}")
        kinds = ("plain", "key", "unique", "expires")
        return cls(
            seed,
            nodes=nodes or rng.choice((2, 2, 3, 4)),
            partitions=rng.choice((1, 2, 2, 3)),
            seconds=rng.choice((15.0, 30.0, 45.0)),
            tasks=rng.choice((8, 20, 40, 80)),
            faults=tuple(each for each in FAULTS if rng.random() < 0.5),
            kinds=tuple(each for each in kinds if rng.random() < 0.6) or ("plain", "key"),
            lossy=rng.choice((0.0, 0.05, 0.2)),
            retries=rng.choice((0.0, 0.2, 0.5)),
            broken=rng.choice((0.05, 0.05, 0.3)),
            longest=rng.choice((0.1, 1.0, 4.0, 12.0)),
            moment=rng.choice((*MOMENTS, *MOMENTS, "", "", "", "")),
        )

    def world(self, *, keeps_history: bool) -> World:
        return World(self, keeps_history=keeps_history)

    def smaller(self) -> Iterator[Plan]:
        """Plans with less in them: fewer faults, workers and kinds of tasks, less time."""
        for fault in self.faults:
            yield replace(self, faults=tuple(each for each in self.faults if each != fault))
        if self.moment:
            yield replace(self, moment="")
        if self.lossy:
            yield replace(self, lossy=0.0)
        if self.partitions > 1:
            yield replace(self, partitions=1)
        if self.nodes > 1:
            yield replace(self, nodes=self.nodes - 1)
        for kind in self.kinds if len(self.kinds) > 1 else ():
            yield replace(self, kinds=tuple(each for each in self.kinds if each != kind))
        if self.retries:
            yield replace(self, retries=0.0)
        for share in (0.5, 0.75):
            if self.tasks > 2:
                yield replace(self, tasks=max(2, int(self.tasks * share)))
            if self.seconds > 4:
                yield replace(self, seconds=max(4.0, self.seconds * share))


class World(Scheduler):
    """One simulation."""

    def __init__(self, plan: Plan, *, keeps_history: bool = False) -> None:
        super().__init__(f"world {plan.seed}", keeps_history=keeps_history)
        self.plan = plan
        self.under_way = 0
        self.topic = Topic(0, plan.partitions)
        self.journal = [Log() for _ in range(plan.partitions)]
        self.registry = Log()
        self.group = Group(plan.partitions, self.rng)
        self.judge = Judge(self)
        self.nodes: dict[str, Node] = {}
        self.incarnations: dict[str, Node] = {}
        self._appended: dict[tuple[Node, int], float] = {}
        self._longest_run = plan.longest
        self.faults = Faults(self)
        self._knows_deaths = self.rng.random() < 0.2

    # -- time ----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Runs the world to its end.

        Raises:
            Violation: a rule is broken.
        """
        rng = self.rng
        choices = {"checkpoint_after": rng.choice((20, 60, 2000)), "patience": rng.choice((1.0, 4.0))}
        with simulated(self.clock, **choices):
            for number in range(self.plan.nodes):
                self.start(f"n{number}")
            threads = self._sends(), self._minds_group(), self._frees(), *map(self.faults.happen, self.plan.faults)
            for thread in threads:
                self.spawn(thread)
            self.go(until=self.plan.seconds)
            self._heal()
            ended, since = 0, self.now
            while self.under_way or quiet.unfinished(self):
                if len(self.judge.acknowledged) > ended:
                    ended, since = len(self.judge.acknowledged), self.now
                if self.now > since + _PATIENCE:
                    raise Violation("stuck", *quiet.unfinished(self))
                self.go(until=self.now + 2.0)
            self.go(until=self.now + 8.0)  # until workers have heard of the last ends
            quiet.check(self)

    def _heal(self) -> None:
        """Ends all faults."""
        self.faults.are_over = True
        self._longest_run = min(self._longest_run, 0.3)
        self.note("world", "faults cease")
        for name, node in list(self.nodes.items()):
            if node.dead:
                self.start(name)

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        node = Node(self, name, len(self.incarnations), self.rng.choice((1, 2, 4)))
        self.nodes[name] = self.incarnations[node.incarnation] = node
        self.note(node.incarnation, "is started", f"{node.pool.slots} slots")

    def remove(self, node: Node) -> None:
        """Ends a worker's process, with all that runs there."""
        node.dead = True
        self.judge.dies(node)

    def is_known_dead(self, by: Node, incarnation: str) -> bool:
        """True if a worker sees on its machine that another one's process is gone."""
        return self._knows_deaths and incarnation in self.incarnations and self.incarnations[incarnation].dead

    def living(self) -> Node | None:
        living = [node for node in self.nodes.values() if not node.dead]
        return self.rng.choice(living) if living else None

    # -- the brokers ---------------------------------------------------------------------------------------------------

    def _minds_group(self) -> Iterator[float]:
        while True:
            yield 0.5
            for member in self.group.expire(self.now):
                self.note("group", "gives up", member)

    def append(self, node: Node, partition: int, value: bytes, settle: Callable[..., None]) -> None:
        """Takes a record for the journal from a producer, which keeps their order."""
        fate = self.rng.choice(APPENDS) if not self.faults.are_over and self.rng.random() < self.plan.lossy else "taken"
        if self.now < node.cut_until and self.rng.random() < 0.3:
            fate = "refused"
        at = max(self.now, node.lags_until, node.cut_until if fate != "refused" else 0.0)
        at += self.rng.random() * (6.0 if fate == "slow" else 0.02)
        at = self._appended[node, partition] = max(at, self._appended.get((node, partition), 0.0))
        self.spawn(self._appends(node, partition, value, settle, fate, at - self.now))

    def _appends(
        self, node: Node, partition: int, value: bytes, settle: Callable[..., None], fate: str, wait: float
    ) -> Iterator[float]:
        yield wait
        if node.dead and (partition in node.unsent or self.rng.random() < 0.3):
            node.unsent.add(partition)  # a producer keeps the order of its records
            return
        if fate in ("refused", "ghost"):
            # The producer gives up. A ghost is in the journal all the same, a while later.
            self.spawn(self._answers(settle, _TIMED_OUT, None), node)
            yield self.rng.random() * 0.5
        if fate != "refused":
            log = self.journal[partition]
            offset = log.append(Told(self.now, value))
            self.note(f"journal {partition}", f"{offset}", value)
            self.judge.told(partition, value)
            if fate != "ghost":
                error = _TIMED_OUT if fate == "late" else None
                self.spawn(self._answers(settle, error, Stored(offset)), node)

    def _answers(self, settle: Callable[..., None], error: KafkaError | None, stored: Stored | None) -> Iterator[float]:
        yield self.rng.random() * 0.02
        settle(error, stored)

    def say(self, node: Node, said: Heartbeat | list[Grant]) -> None:
        """Takes a record for the log of heartbeats. One that is sent while the worker is cut off is lost."""
        if not node.is_cut:
            self.spawn(self._says(said))

    def _says(self, said: Heartbeat | list[Grant]) -> Iterator[float]:
        yield self.rng.random() * 0.02
        self.registry.append(Said(self.now, said))

    def refuses(self) -> bool:
        """True if the group refuses a commit for a moment, as during a rebalance."""
        return not self.faults.are_over and self.rng.random() < 0.05

    def commit(self, partition: int, offset: int, metadata: str) -> None:
        self.note("group", "commits", partition, offset, metadata)
        self.group.commits[partition] = offset, metadata
        self.judge.commits(partition, offset, metadata, thoroughly=self.rng.random() < 0.05)

    def trim(self, topic: Topic, marks: Mapping[int, tuple[int, int]]) -> None:
        """Deletes what is needed no more, and is old."""
        self.note("trim", topic.id, marks)
        for number, (needed, folded) in marks.items():
            for log, mark in ((topic.partitions[number], needed), (self.journal[number], folded)):
                log.trim(
                    min(mark, next((o for o in range(log.start, log.end) if self._is_young(log.found.get(o))), log.end))
                )

    def _is_young(self, found: Any) -> bool:
        return found is not None and found.at > self.now - _RETENTION

    # -- clients, and their tasks --------------------------------------------------------------------------------------

    def _sends(self) -> Iterator[float]:
        rng, plan = self.rng, self.plan
        self.under_way += 1
        sent = 0
        while sent < plan.tasks:
            yield rng.expovariate(plan.tasks / plan.seconds * 1.2)
            for _ in range(rng.choice((1, 1, 1, 6))):
                self._send(f"t{sent}")
                sent += 1
        for log in self.topic.partitions:
            self._mark(log)
        self.under_way -= 1

    def _send(self, name: str) -> None:
        rng, kind = self.rng, self.rng.choice(self.plan.kinds)
        key = f"k{rng.randrange(2)}" if kind == "key" or (kind == "unique" and rng.random() < 0.5) else ""
        unique = f"u{rng.randrange(8)}" if kind == "unique" else ""
        if unique and key:
            key, unique = "ku", f"v{rng.randrange(4)}"  # a deduplication id goes with one key only
        name_of_partition = key or unique or name
        partition = sum(map(ord, name_of_partition)) % self.plan.partitions
        self._mark(self.topic.partitions[partition])
        record = self.topic.send(partition, Task(name, key, unique, kind == "expires"), self.now)
        self.judge.sent(record)
        self.note("client", "sends", record)

    def _mark(self, log: Log) -> None:
        """Appends the marker of a transaction now and then."""
        if self.rng.random() < 0.1:
            log.append(None)

    def send_retry(self, record: Record) -> None:
        """Sends the retry of a task, which comes after a while."""
        self.under_way += 1
        self.spawn(
            self._comes_again(
                self.topic, record, self.rng.choice((0.01, 0.5, 4.0, 12.0)) if not self.faults.are_over else 0.1
            )
        )

    def _comes_again(self, topic: Topic, record: Record, wait: float) -> Iterator[float]:
        yield wait
        self.under_way -= 1
        place, run = record.place, record.run
        if topic is self.topic and place.topic == topic.id:
            retry = topic.send(place.partition, record.task, self.now, run.retries + 1, place.offset)
            self.judge.sent(retry)
            self.note("delays", "sends", retry)
            self._mark(topic.partitions[place.partition])

    def duration(self) -> float:
        return self.rng.random() * self._longest_run

    def outcome(self, record: Record) -> Outcome:
        chance = self.rng.random()
        broken = 0.0 if self.faults.are_over else self.plan.broken
        if chance < broken:
            return Outcome.BROKEN_OFF
        if chance < broken + self.plan.retries and record.run.retries < 3:
            return Outcome.RETRY
        return Outcome.STOP if record.task.key and chance > 0.95 else Outcome.SUCCESS

    def _frees(self) -> Iterator[float]:
        """An operator frees stopped lanes."""
        while True:
            yield 2.0
            for node in self.nodes.values():
                for number, work in [] if node.dead or self.now < node.paused_until else [*node.owned.items()]:
                    self.clock.ahead = node.ahead
                    for view in work.lanes():
                        if view.hold is not None and view.hold.is_stop and work.free(view.lane):
                            self.note("operator", "frees", number, view.lane)
                            self.judge.freed(work.queue, view.hold.task_id)
