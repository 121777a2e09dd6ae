"""A simulated worker: the real partitions and journal writer, and around them what the worker's threads do.

Each thread is a generator, which yields where others may come between: the number is the time until it goes on, in seconds.
The threads that own partitions, run tasks and share them are in :mod:`tests.simulation.worker`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from kafka_exec.core.nodes.clock import LogClock
from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.nodes.liveness import Liveness, TaskWatch, membership
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.restoring import JournalEntry
from kafka_exec.kafka.queue.journal_writer import JournalWriter
from tests.simulation.brokers import PERIOD, QUEUE, SESSION, Said, Topic
from tests.simulation.worker.member import Member
from tests.simulation.worker.pool import Pool
from tests.simulation.worker.sharing import Sharing
from tests.simulation.worker.work import REMEMBER, Item, Sink, Thread, Work

if TYPE_CHECKING:
    from tests.simulation.world import World


class Node:
    """A worker's process, from its start to its end. Another start has another incarnation.

    It is also the journal of its partitions, and their registry of nodes: these are the attributes that the executor uses.

    Attributes:
        owned, disowned: the partitions that it owns, and those it has owned, or runs granted tasks of.
        unsent: the partitions of the journal of which it has died with records that it had not sent.
        pauses, cuts: its pauses and cuts, each with its begin and its end.
        untold: the times in which it has given partitions away, and could not tell what runs there.
    """

    period = PERIOD

    def __init__(self, world: World, name: str, number: int, slots: int) -> None:
        self.world, self.rng = world, world.rng
        self.name, self.incarnation = name, f"{name}.{number}"
        self.ahead = self.rng.random() * 1000
        self.node = self
        self.writer = JournalWriter(self, "journal", self.incarnation)
        self.dead = self.stopping = self.left = False
        self.paused_until = self.cut_until = self.slow_until = self.lags_until = 0.0
        self.children_go_on = False
        self.unsent: set[int] = set()
        self.pauses: list[tuple[float, float]] = []
        self.cuts: list[tuple[float, float]] = []
        self.untold: list[tuple[float, float]] = []
        self.owned: dict[int, Work] = {}
        self.disowned: dict[int, Work] = {}
        self.sinks: dict[int, Sink] = {}
        self.identity = ""
        self.topic: Topic = world.topic
        self._clock = LogClock()
        self.liveness = Liveness(self.incarnation, PERIOD)
        self.watched = TaskWatch(self.liveness)
        self.membership = membership(SESSION)
        self.member, self.pool = Member(self), Pool(self, slots)
        self.sharing = Sharing(self)
        parts = (*self.member.threads, *self.pool.threads, *self.sharing.threads, self.member.trims())
        for thread in (self._beats(), self._feed(), *parts):
            world.spawn(thread, self)

    # -- the world -----------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The time of the steady clock."""
        return self.world.now + self.ahead

    @property
    def is_cut(self) -> bool:
        return self.world.now < self.cut_until

    def log_time(self, now: float | None = None) -> float | None:
        return self._clock.time(self.now if now is None else now)

    def note(self, event: str, *details: object) -> None:
        self.world.note(self.incarnation, event, *details)

    def moment(self, name: str) -> Thread:
        """Lets a moment pass at which faults may be aimed."""
        if self.world.faults.aim(name, self):
            yield 0.0

    # -- the publisher of the journal ----------------------------------------------------------------------------------

    def enqueue(self, topic: str, value: bytes, partition: int, settle: Callable[..., None]) -> None:
        self.world.append(self, partition, value, settle)

    def serve(self, timeout: float = 0.0) -> None:
        pass

    def flush(self, partitions: Collection[int], timeout: float) -> Iterator[float]:
        """Waits until what was told of partitions is durable. Returns False if it is not in time."""
        deadline = self.now + timeout
        while not self.writer.flush(partitions, -1.0):  # it looks once
            if self.now > deadline:
                self.note("flush timed out", *partitions)
                return False
            yield self.rng.random() * 0.02
        return True

    # -- the registry of nodes -----------------------------------------------------------------------------------------

    def _beats(self) -> Thread:
        while True:
            self.beat()
            yield PERIOD

    def beat(self) -> None:
        strays = [(QUEUE, number, offset) for number, work in self.disowned.items() for _, _, offset in work.strays()]
        beat = Heartbeat(
            self.incarnation,
            self.name,
            1,
            left=self.left,
            strays=tuple(strays),
            slots=self.pool.slots,
            active=self.pool.running,
            queues=(QUEUE,),
        )
        self.world.say(self, beat)

    def _take(self, said: Said) -> None:
        if not isinstance(said.said, Heartbeat):
            for grant in said.said:
                if grant.to == self.incarnation:
                    self.world.spawn(self.sharing.accept(grant, said.at), self)
            return
        self.liveness.take(said.said, said.at)
        self.watched.take(said.said, self.now)
        if said.said.incarnation == self.incarnation:
            self._clock.take(said.at, self.now)

    def runs_no_more(self, incarnation: str, stray: tuple[str, int, int]) -> bool:
        return self.watched.is_over(incarnation, stray, self.now) or self.world.is_known_dead(self, incarnation)

    # -- the reader of logs --------------------------------------------------------------------------------------------

    def _feed(self) -> Thread:
        log = self.world.registry
        heard = max(0, log.end - 30)
        while True:
            yield self.rng.random() * (0.8 if self.world.now < self.slow_until else 0.06)
            if self.is_cut:
                continue
            while heard < log.end:
                self._take(log.found[heard])
                heard += 1
            for partition, sink in list(self.sinks.items()):
                for _ in range(self.rng.randint(1, 10)):
                    if not self._read_journal(partition, sink):
                        break
                yield 0.0005

    def _read_journal(self, partition: int, sink: Sink) -> bool:
        log = self.world.journal[partition]
        if sink.position < log.start:
            sink.position = log.start
            if sink.kept is None and partition in self.disowned:
                self.disowned[partition].miss_journal()
        if sink.position >= log.end or self.sinks.get(partition) is not sink:
            return False
        value = log.found[sink.position].value
        if sink.kept is not None:
            sink.kept.append(JournalEntry(sink.position, value))
        else:
            self.hear(partition, value)
        sink.position += 1
        return True

    def hear(self, partition: int, value: bytes) -> None:
        if (work := self.owned.get(partition) or self.disowned.get(partition)) is not None:
            work.hear(value)

    def position(self, partition: int) -> int | None:
        sink = self.sinks.get(partition)
        return None if sink is None else sink.position

    def watch(self, partition: int, since: int | None = None) -> None:
        if partition not in self.sinks:
            self.sinks[partition] = Sink(self.world.journal[partition].end if since is None else since, keeps=False)

    # -- its partitions -------------------------------------------------------------------------------------------------

    def new_work(self, partition: int, ledger: Ledger) -> Work:
        if (gone := self.disowned.pop(partition, None)) is not None:
            gone.lose()
        return Work(
            QUEUE,
            partition,
            ledger,
            self,
            membership=self.membership,
            remember=REMEMBER,
            on_free=lambda record, work: self.pool.buffer.append(Item(record, work, work.term)),
        )
