"""The simulated world of the control plane: chords and delayed tasks, whose drivers are killed, stopped and cut off."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from kafka_exec.core.control.delay import MARGIN, DelayHeaders, level_for, wait_of
from kafka_exec.core.control.reducers import Command
from kafka_exec.kafka.control import level, partition
from kafka_exec.kafka.publish.scopes import Outgoing
from tests.simulation.clock import Scheduler
from tests.simulation.judge import Violation
from tests.simulation.plane.brokers import Brokers, Sent, Transactor
from tests.simulation.plane.process import BODIES, CHORDS, DELAYS, LEVELS, NAMES, PARTITIONS, Consumer, Process
from tests.simulation.plane.wait_rules import BURIED, CONTINUED, EARLY, REPLIES, STATES
from tests.simulation.plane.waits import Waits

#: The faults, each with the mean time between two, seconds.
FAULTS = {"pause": 5.0, "cut": 5.0, "kill": 8.0, "move": 3.0, "compact": 4.0, "clock": 5.0}

#: After the faults no so many seconds pass in which nothing is done, until all is done.
_PATIENCE = 60.0

#: When all is done and no fault comes, the outputs of the last commands are written within so many seconds.
_SETTLED = 5.0

#: The shares of commits that are made, and whose answer is lost; and of moments at which a process is stopped.
_UNANSWERED, _STOPPED = 0.1, 0.1

_QUEUE = NAMES.queue("x", 0)


@dataclass(frozen=True)
class PlanePlan:
    """What one simulation is made of.

    Attributes:
        chords, delayed, suspended: the numbers of these tasks.
        hurries: an operator has delayed tasks run now.
    """

    seed: int
    processes: int = 2
    seconds: float = 30.0
    chords: int = 8
    delayed: int = 20
    suspended: int = 4
    hurries: bool = True
    faults: tuple[str, ...] = tuple(FAULTS)

    @classmethod
    def of(cls, seed: int, processes: int | None = None) -> PlanePlan:
        rng = random.Random(f"plane plan {seed}")
        return cls(
            seed,
            processes or rng.choice((1, 2, 3)),
            chords=rng.choice((0, 4, 12)),
            delayed=rng.choice((5, 30)),
            suspended=rng.choice((0, 3, 8)),
            faults=tuple(each for each in FAULTS if rng.random() < 0.6),
            hurries=rng.random() < 0.5,
        )

    def world(self, *, keeps_history: bool) -> PlaneWorld:
        return PlaneWorld(self, keeps_history=keeps_history)

    def smaller(self) -> Iterator[PlanePlan]:
        """Plans with less in them."""
        for fault in self.faults:
            yield replace(self, faults=tuple(each for each in self.faults if each != fault))
        for name in ("chords", "delayed", "suspended", "processes"):
            if getattr(self, name) > 1:
                yield replace(self, **{name: getattr(self, name) // 2})


class PlaneJudge:
    """The judge of a simulation: it sees all records that transactions commit.

    A chord has one body, with all its parts, or with none if it was refused. A delayed task comes into its queue once, and
    not early.
    """

    def __init__(self, world: PlaneWorld) -> None:
        self.chords: dict[str, set[str]] = {}
        self.refused: set[str] = set()
        self.delayed: dict[str, float] = {}
        #: The delayed tasks that an operator has run now.
        self.hurried: set[str] = set()
        self.runs = 0
        self._world = world
        self._done: set[str] = set()

    def committed(self, record: Sent) -> None:
        self._world.note(f"{record.topic()} {record.partition()}", f"{record.offset()}", record.key(), record.value())
        if record.topic() == BODIES:
            group, parts, *_ = json.loads(record.value() or b"")
            self._once("a body", group)
            if set(parts or ()) != (set() if group in self.refused else self.chords[group]):
                raise Violation("a body lacks parts", group, parts, "of", sorted(self.chords[group]))
        elif record.topic() == _QUEUE:
            name = (record.value() or b"").decode()
            self._once("a delayed task", name)
            if name not in self.hurried and self._world.now < self.delayed[name] - MARGIN - wait_of(0):
                raise Violation("early", name, f"is due at {self.delayed[name]:.3f}")
        elif record.topic() == CONTINUED:
            self._world.waits.rules.ended(record)
        elif record.topic() == BURIED:
            self._world.waits.rules.buried(record)
        elif record.topic() not in (*(each.name for each in (*CHORDS[:2], *DELAYS)), STATES):
            raise Violation("buried", record.topic(), record.value())

    def told(self, topic: str, value: bytes | None) -> None:
        """Takes what is told without a transaction."""
        self._world.note(topic, "", value)
        if topic == REPLIES:
            self._world.waits.rules.replied(value)

    def _once(self, kind: str, name: str) -> None:
        self.runs += 1
        if name in self._done:
            raise Violation("twice", kind, name)
        self._done.add(name)

    def missing(self) -> set[str]:
        """The chords without a body, and the tasks that are delayed or suspended."""
        return ({*self.chords, *self.delayed} - self._done) | self._world.waits.rules.missing()


class PlaneWorld(Scheduler):
    """One simulation."""

    def __init__(self, plan: PlanePlan, *, keeps_history: bool = False) -> None:
        super().__init__(f"plane {plan.seed}", keeps_history=keeps_history)
        self.plan = plan
        self.brokers, self.judge, self.faults = Brokers(self), PlaneJudge(self), self
        self.owners = {("chords", each): "" for each in range(PARTITIONS)}
        self.owners |= {("delays", each): "" for each in range(LEVELS)}
        self.waits = Waits(self)
        self.happened = 0
        self._processes: list[Process] = []
        self._started = 0
        self._are_over = False
        self._sending = 0

    def run(self) -> None:
        """Runs the world to its end.

        Raises:
            Violation: a rule is broken.
        """
        with _simulated(self):
            for _ in range(self.plan.processes):
                self._start()
            clients = [self._sends_chord(f"g{each}") for each in range(self.plan.chords)]
            clients += [self._sends_delayed(f"t{each}") for each in range(self.plan.delayed)]
            for client in (*clients, *self.waits.clients(self.plan.suspended)):
                self.send(client)
            hurry = (self._hurries(),) if self.plan.hurries else ()
            for thread in (self._minds(), *hurry, *map(self._faults, self.plan.faults)):
                self.spawn(thread)
            self.go(until=self.plan.seconds)
            self._are_over = True
            self.note("world", "faults cease")
            left, since = self._left(), self.now
            while left != (0, set()):
                self.go(until=self.now + 1.0)
                if (now_left := self._left()) != left:
                    left, since = now_left, self.now
                elif self.now > since + _PATIENCE:
                    raise Violation("lost", *sorted(self.judge.missing()))
            if self.plan.suspended:
                self.go(until=self.now + EARLY + _SETTLED)
                self.waits.rules.compare(self.brokers.logs(CHORDS.commands.name))

    def _left(self) -> tuple[int, set[str]]:
        """The number of clients that have not sent all, and what is not done."""
        return self._sending, self.judge.missing()

    # -- processes -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._processes.append(Process(self, f"p{self._started}"))
        self._started += 1
        self._share()

    def _share(self) -> None:
        """Gives each partition, and each level, to some process."""
        for each in self.owners:
            self.owners[each] = self.rng.choice(self._processes).name

    def _faults(self, fault: str) -> Iterator[float]:
        while True:
            yield self.rng.expovariate(1 / FAULTS[fault])
            if self._are_over:
                return
            process = self.rng.choice(self._processes)
            until = min(self.now + self.rng.choice((0.5, 3.0, 12.0)) * self.rng.random(), self.plan.seconds)
            self.happened += 1
            self.note(process.name, fault, f"until {until:.3f}" if fault in ("pause", "cut") else "")
            if fault == "pause":
                process.paused_until = until
            elif fault == "cut":
                process.cut_until = until
            elif fault == "clock":
                process.lag = self.rng.random() * 5.0
            elif fault == "compact":
                for log in (
                    log for topic in (CHORDS.changelog, DELAYS.positions) for log in self.brokers.logs(topic.name)
                ):
                    log.compact()
            else:
                if fault == "kill":
                    process.dead = True
                    self._processes.remove(process)
                    self._start()
                self._share()

    def moment(self, process: Process) -> Iterator[float]:
        """Lets a moment pass between two steps of a transaction, at which a process may be stopped."""
        if not self._are_over and "pause" in self.plan.faults and self.rng.random() < _STOPPED:
            process.paused_until = min(self.now + self.rng.random() * 12.0, self.plan.seconds)
            self.note(process.name, "pause", f"until {process.paused_until:.3f}")
            self._share()
        yield self.rng.random() * 0.05

    def is_unanswered(self) -> bool:
        """True if the answer to a commit is lost."""
        return not self._are_over and self.rng.random() < _UNANSWERED

    def _minds(self) -> Iterator[float]:
        while True:
            yield 1.0
            self.brokers.expire()

    # -- clients -------------------------------------------------------------------------------------------------------

    def send(self, client: Iterator[float]) -> None:
        """Starts a client. The world does not end before it."""
        self._sending += 1
        self.spawn(self._until_sent(client))

    def _until_sent(self, client: Iterator[float]) -> Iterator[float]:
        yield from client
        self._sending -= 1

    def _sends_chord(self, group: str) -> Iterator[float]:
        """Sends the commands of a chord, some of them twice, and some late."""
        rng = self.rng
        parts = {f"{group}.{index}": index for index in range(rng.randint(1, 5))}
        body = rng.choice(
            ("body", "body", "huge", "wide")
        )  # the second last fits into no change, the last into no message
        if body != "body":
            self.judge.refused.add(group)
        yield rng.random() * self.plan.seconds
        added = [f"{group}.more"] if rng.random() < 0.3 else []
        self.judge.chords[group] = {*parts, *added}
        for task in added:  # a task tells that it adds one before its own end
            yield from self.commands(group, Command("chord.more", {"group": group, "task": task}))
        size = {"size": len(parts), "header": None, "body": body, "run": "r"}
        commands = [Command("chord.size", {"group": group, **size})]
        runs = ("r",) if body == "huge" else ("r", None)
        for task, index in {**parts, **dict.fromkeys(added)}.items():
            part = {
                "task": task,
                "index": index,
                "ok": True,
                "payload": index,
                "body": body,
                "run": rng.choice(runs),
            }
            commands.append(Command("chord.part", {"group": group, **part}))
        commands += rng.choices(commands, k=rng.randint(0, 3))
        rng.shuffle(commands)
        for command in commands:
            yield from self.commands(group, command)

    def commands(self, key: str | None, command: Command) -> Iterator[float]:
        """Sends a command; without a key to all partitions."""
        for number in range(PARTITIONS) if key is None else (sum(map(ord, key)) % PARTITIONS,):
            self.brokers.append(Outgoing(CHORDS.commands.name, command.encode(), partition=number))
            self.note("client", "sends", number, command)
            yield self.rng.choice((0.0, 0.0, 0.2, 4.0)) * self.rng.random()

    def _sends_delayed(self, name: str) -> Iterator[float]:
        yield self.rng.random() * self.plan.seconds
        until = self.judge.delayed[name] = self.now + 2.1 + self.rng.random() * 25.0
        headers = DelayHeaders("x", 0, until).write([])
        number = level_for(until - self.now, LEVELS)
        self.brokers.append(Outgoing(DELAYS.waiting.name, name.encode(), name, headers, number))
        self.note("client", "delays", name, f"until {until:.3f}", number)

    def _hurries(self) -> Iterator[float]:
        """An operator has delayed tasks run now, some of which have gone, and asks for some of them twice."""
        while not self._are_over:
            yield self.rng.expovariate(0.5)
            number = self.rng.randrange(LEVELS)
            log = self.brokers.log(DELAYS.waiting.name, number)
            found, _ = log.read(0, log.end)
            chosen = [each for each in found if self.rng.random() < 0.5]
            self.judge.hurried.update((each.value() or b"").decode() for each in chosen)
            offsets = {each.offset() for each in chosen}
            self.note("operator", "runs now", number, sorted(offsets))
            for _ in range(self.rng.choice((1, 1, 2))):
                yield self.rng.random()
                for process in self._processes:
                    if not process.is_cut:
                        process.requests.setdefault(number, set()).update(offsets)


class _Fetcher:
    """The reader of single records, in place of :class:`kafka_exec.kafka.log.history.Fetcher`."""

    def __init__(self, process: Process, topic: str) -> None:
        self.end = lambda number: process.world.brokers.log(topic, number).end
        self.close = lambda timeout: None


def _history(process: Process, topic: str, number: int, end: int, begin: int = 0) -> Iterator[list[Sent]]:
    records, _ = process.world.brokers.log(topic, number).read(begin, end)
    yield [record for record in records if record.offset() < end]


def _read_from(consumer: Consumer, topic: str, begins: dict[int, int]) -> None:
    [consumer.position] = begins.values()


def _read_no_more(consumer: Consumer, topic: str, numbers: Any) -> None:
    consumer.position = None


@contextmanager
def _simulated(world: PlaneWorld) -> Iterator[None]:
    """Has the drivers use the simulated brokers."""
    changes: list[tuple[Any, str, Any]] = [
        (partition, "Transactor", Transactor),
        (partition, "time", world.clock),
        (level, "Transactor", Transactor),
        (level, "Fetcher", _Fetcher),
        (level, "history", _history),
        (level, "read_from", _read_from),
        (level, "read_no_more", _read_no_more),
    ]
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(patch.object(*change))
        yield
