"""A small world in which nodes share periodic entries over a log: delays, lost answers, pauses, deaths, wrong suspicions.

The log is Kafka's as far as it matters: a transaction's records have their offsets when they are sent, readers stop before
the first one that is open, and a fenced producer's transactions are aborted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from kafka_exec.core.beat.claim import ClaimState, Do
from kafka_exec.core.beat.claimant import Act, Claimant, Firing, Terms
from kafka_exec.core.beat.claimlog import ClaimLog, RecordKind, Signal, Verdict
from kafka_exec.core.nodes.heartbeat import LOST_AFTER
from kafka_exec.core.nodes.liveness import TrustWindow, lease

PERIOD = 2.0
HEARTBEAT = 1.0
LOST = LOST_AFTER * HEARTBEAT
STEP = 0.05


@dataclass
class Transaction:
    """Records that become visible together, or not at all. ``state``: ``open``, ``committed`` or ``aborted``."""

    incarnation: str
    ends: float
    state: str = "open"


@dataclass
class Run:
    """A run in a process of its own, which goes on while its node is paused. ``end``: at the latest, until it has ended."""

    entry: str
    incarnation: str
    begin: float
    end: float
    lease: TrustWindow


@dataclass
class World:
    """Everything there is.

    Args:
        fences: whether fencing works.
        renews: whether who was fenced goes on as another incarnation.
        on_nodes: whether nodes run the entries themselves; then nobody is suspected wrongly.
        leases: whether such a run ends with its lease.
    """

    seed: int
    nodes: int = 4
    entries: int = 3
    faults_until: float = 60.0
    fences: bool = True
    renews: bool = True
    on_nodes: bool = False
    leases: bool = True
    now: float = 1000.0
    log: list[tuple[Signal, float, Transaction]] = field(default_factory=list)
    fenced: set[str] = field(default_factory=set)
    heard: dict[str, float] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.names = [f"e{number}" for number in range(self.entries)]
        self.members = [Member(self, number) for number in range(self.nodes)]

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        begin = 1000.0
        while self.now < end:
            self.now += STEP
            for member in self.members:
                if self.now < begin + self.faults_until:
                    member.suffer()
                member.step()
            for run in self.runs if self.leases else ():
                if run.end > self.now and (run.lease.until is None or run.lease.until <= self.now):
                    run.end = self.now

    def fence(self, incarnation: str) -> None:
        if not self.fences:
            return
        self.fenced.add(incarnation)
        for _, _, transaction in self.log:
            if transaction.incarnation == incarnation and transaction.state == "open":
                transaction.state = "aborted"

    def committed(self) -> Iterator[tuple[int, Signal, float]]:
        for offset, (signal, at, transaction) in enumerate(self.log):
            if transaction.state == "committed":
                yield offset, signal, at

    def wrongs(self) -> list[str]:
        """The wrongs in the log: effects of a node that does not hold the entry, slots fired twice or left out."""
        fold, found, last = ClaimLog(), [], dict[str, float]()
        for offset, signal, at in self.committed():
            verdict = fold.take(signal, offset, at)
            if signal.kind is not RecordKind.HANDLING:
                continue
            if verdict is not Verdict.ACCEPTED:
                found.append(f"{signal.entry} fired by {signal.node}, who does not hold it")
            before = last.get(signal.entry, fold.standing(signal.entry).since or 0.0)
            if abs((signal.slot or 0.0) - before - PERIOD) > 1e-6:
                found.append(f"{signal.entry}: {signal.slot} after {before}")
            last[signal.entry] = signal.slot or 0.0
        return found

    def overlaps(self) -> list[tuple[Run, Run]]:
        """The runs of one entry of which the second began before the first had ended."""
        by_entry = [
            sorted((run for run in self.runs if run.entry == name), key=lambda run: run.begin) for name in self.names
        ]
        return [(first, second) for runs in by_entry for first, second in pairwise(runs) if second.begin < first.end]


class Member:
    """A node."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.lives = 0
        self.asleep_until = 0.0
        self.dead_until = 0.0
        self.born()

    def born(self) -> None:
        self.position = 0
        self.outbox: list[Signal] = []
        self.transaction: Transaction | None = None
        self.answer_lost = False
        self.fired: dict[str, float] = {}
        self.begins: list[str] = []
        self.runs: dict[str, Run] = {}
        self.suspects: set[str] = set()
        self.claimant = Claimant(self.new_incarnation(), f"n{self.number}", ClaimLog())
        self.claimant.want(dict.fromkeys(self.world.names, Terms("h", heartbeat=20.0)), self.world.now)
        self.end_of_history = len(self.world.log)

    def new_incarnation(self) -> str:
        self.lives += 1
        self.lease = lease(HEARTBEAT)
        return f"n{self.number}.{self.lives}"

    def suffer(self) -> None:
        chance, now = self.world.chance, self.world.now
        if now < max(self.asleep_until, self.dead_until):
            return
        if chance.random() < 0.002:
            self.dead_until = now + chance.uniform(0.2, 8)
            for entry in list(self.runs):
                self.stop(entry)
            self.born()
        elif chance.random() < 0.004:
            self.asleep_until = now + chance.uniform(0.1, 10)
        if not self.world.on_nodes:
            self.suspects = {each.claimant.incarnation for each in self.world.members if chance.random() < 0.002}

    def step(self) -> None:
        world, chance = self.world, self.world.chance
        if world.now < max(self.asleep_until, self.dead_until):
            self.settle_at_broker()
            return
        world.heard[self.claimant.incarnation] = world.now
        self.lease.renew(world.now)
        if world.on_nodes and world.leases and self.lease.lost and self.claimant.held:
            self.transaction = None
            self.step_down()
            return
        if chance.random() < 0.3:
            return  # slow
        if self.transaction is not None:
            self.settle_at_broker()
            if self.transaction.state == "open":
                return
            committed = self.transaction.state == "committed" and not self.answer_lost
            self.transaction = None
            if not committed:
                self.step_down()
                return
            self.begin_runs()
        acts = self.read()
        if not self.claimant.ready and self.position >= self.end_of_history:
            acts += self.claimant.begin(world.now)
        acts += self.claimant.turn(world.now)
        for incarnation in self.claimant.to_fence(self.is_gone, list(world.heard), world.now):
            world.fence(incarnation)
            if chance.random() < 0.9:  # or it forgets, and does so again later
                acts += self.claimant.fenced(incarnation, world.now)
        if any(act.do is Do.STEP_DOWN for act in acts):
            self.step_down()
            return
        self.send(acts)
        self.end_runs()
        self.fire()
        if self.outbox:
            self.commit()

    def is_gone(self, incarnation: str) -> bool:
        return incarnation in self.suspects or self.world.now - self.world.heard.get(incarnation, 0.0) > LOST

    def read(self) -> list[Act]:
        acts: list[Act] = []
        for _ in range(self.world.chance.randrange(40)):
            if self.position >= len(self.world.log):
                break
            signal, at, transaction = self.world.log[self.position]
            if transaction.state == "open":
                break
            if transaction.state == "committed":
                acts += self.claimant.take(signal, self.position, at, self.world.now)
            self.position += 1
        return acts

    def fire(self) -> None:
        for name in self.claimant.held:
            standing = self.claimant.log.standing(name)
            last = max(standing.slot or standing.since or 0.0, self.fired.get(name, 0.0))
            if self.world.on_nodes:
                if last + PERIOD <= self.world.now and self.claimant.state(name) is not ClaimState.HANDLING_BY_NODE:
                    last += PERIOD
                    self.send(self.claimant.fire(name, Firing(last, "run"), self.world.now, held=True))
                    self.begins.append(name)
                self.fired[name] = last
                continue
            while last + PERIOD <= self.world.now:
                last += PERIOD
                self.send(self.claimant.fire(name, Firing(last, "run"), self.world.now))
            self.fired[name] = last

    def begin_runs(self) -> None:
        """Begins what the log has, and notes what has ended."""
        begins, self.begins = self.begins, []
        for entry in begins:
            if self.claimant.state(entry) is ClaimState.HANDLING_BY_NODE:
                now = self.world.now
                end = now + self.world.chance.uniform(0.1, 12)
                self.runs[entry] = Run(entry, self.claimant.incarnation, now, end, self.lease)
                self.world.runs.append(self.runs[entry])

    def end_runs(self) -> None:
        for entry in [entry for entry, run in self.runs.items() if run.end <= self.world.now]:
            del self.runs[entry]
            self.send(self.claimant.ended(entry, self.world.now))

    def stop(self, entry: str) -> None:
        if (run := self.runs.pop(entry, None)) is not None:
            run.end = min(run.end, self.world.now)

    def send(self, acts: list[Act]) -> None:
        for act in acts:
            if act.do is Do.STOP_RUN:
                self.stop(act.entry)
        self.outbox += [act.signal for act in acts if act.signal is not None]

    def commit(self) -> None:
        world, chance = self.world, self.world.chance
        long = 2.0 if chance.random() < 0.05 else 0.1
        self.transaction = Transaction(self.claimant.incarnation, world.now + chance.uniform(0.0, long))
        self.answer_lost = world.now < 1000 + world.faults_until and chance.random() < 0.01
        if self.claimant.incarnation in world.fenced:
            self.transaction.state = "aborted"
        world.log += [(signal, world.now, self.transaction) for signal in self.outbox]
        self.outbox = []

    def settle_at_broker(self) -> None:
        open_one = self.transaction
        if open_one is not None and open_one.state == "open" and self.world.now >= open_one.ends:
            open_one.state = "committed"

    def step_down(self) -> None:
        self.outbox, self.fired, self.begins = [], {}, []
        if self.world.renews:
            self.send(self.claimant.renew(self.new_incarnation(), self.world.now))
        else:
            self.world.fenced.discard(self.claimant.incarnation)
