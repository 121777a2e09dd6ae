"""A simulated worker: the real partitions and journal writer, and around them what the worker's threads do.

Each thread is a generator, which yields where others may come between: the number is the time until it goes on, in seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kafka_exec.core.nodes.clock import LogClock
from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.nodes.liveness import Liveness, TaskWatch, membership
from kafka_exec.core.queue.lanes import Ticket, after_failure, after_retry
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.restoring import JournalEntry, restore
from kafka_exec.core.worker.sharing import Fullness, Grant, idle_peers
from kafka_exec.errors import NotConfirmed
from kafka_exec.kafka.queue import commits
from kafka_exec.kafka.queue.journal_writer import JournalWriter
from kafka_exec.kafka.queue.owned import OwnedPartition
from tests.simulation.brokers import PERIOD, QUEUE, SESSION, Record, Said, Topic
from tests.simulation.judge import Outcome, TaskRun

if TYPE_CHECKING:
    from tests.simulation.world import World

Thread = Iterator[float]

#: The longest times that the executor waits, as in ``kafka_exec/kafka/queue``, seconds.
_FLUSH_TIMEOUT, _GRANT_TIMEOUT, _COMMIT_TIMEOUT, _LEASES_POLL = 2.0, 0.5, 2.0, 0.2

#: Copies of a task are dropped for so long: longer than any simulation.
_REMEMBER = 10_000.0

_REFUSED = KafkaError(KafkaError.UNKNOWN_MEMBER_ID)


class Item(NamedTuple):
    """A record that is handed out."""

    record: Record
    work: Work
    term: int


class Work(OwnedPartition):
    """The executor of a partition, whose records are simulated ones."""

    def _ticket(self, record: Any, attempts: int = 0) -> Ticket | None:
        return record.ticket(restarted=max(attempts, self._core.attempts(record.offset())) > 0)


class Sink:
    """The records of a followed partition of the journal: kept while the partition is restored, and heard afterwards."""

    def __init__(self, position: int, *, keeps: bool) -> None:
        self.position = position
        self.kept: list[JournalEntry] | None = [] if keeps else None


class Node:
    """A worker's process, from its start to its end. Another start has another incarnation.

    It is also the journal of its partitions, their registry of nodes, and the consumer of their commits: these are the
    attributes that the executor uses.
    """

    period = PERIOD

    def __init__(self, world: World, name: str, number: int, slots: int) -> None:
        self.world, self.rng = world, world.rng
        self.name, self.incarnation, self.slots = name, f"{name}.{number}", slots
        self.ahead = self.rng.random() * 1000
        self.node = self
        self.writer = JournalWriter(self, "journal", self.incarnation)
        self.dead = self.stopping = self.left = False
        self.paused_until = self.cut_until = self.slow_until = 0.0
        self.children_go_on = False
        #: The pauses and cuts, each with its begin and its end.
        self.pauses: list[tuple[float, float]] = []
        self.cuts: list[tuple[float, float]] = []
        self.owned: dict[int, Work] = {}
        self.disowned: dict[int, Work] = {}
        self.sinks: dict[int, Sink] = {}
        self.positions: dict[int, int] = {}
        self.buffer: deque[Item] = deque()
        self.returned: deque[Item] = deque()
        self.waiting: deque[Item] = deque()
        self.running = 0
        self.identity = ""
        self.topic: Topic = world.topic
        self.member: str | None = None
        self._members = 0
        self._lost = False
        self._clock = LogClock()
        self._liveness = Liveness(self.incarnation, PERIOD)
        self._watched = TaskWatch(self._liveness)
        self._membership = membership(SESSION)
        self._fullness = Fullness()
        self._answers: deque[tuple[KafkaError | None, list[TopicPartition]]] = deque()
        for thread in (
            self._beats,
            self._feed,
            self._polls,
            self._keeps_membership,
            self._loop,
            self._shares,
            self._trims,
        ):
            world.spawn(thread(), self)

    # -- the world -----------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The time of the steady clock."""
        return self.world.now + self.ahead

    @property
    def is_cut(self) -> bool:
        return self.world.now < self.cut_until

    def log_time(self) -> float | None:
        return self._clock.time(self.now)

    def note(self, event: str, *details: object) -> None:
        self.world.note(self.incarnation, event, *details)

    # -- the publisher of the journal ----------------------------------------------------------------------------------

    def enqueue(self, topic: str, value: bytes, partition: int, settle: Callable[..., None]) -> None:
        self.world.append(self, partition, value, settle)

    def serve(self) -> None:
        pass

    def _flush(self, partitions: Collection[int], timeout: float) -> Iterator[float]:
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
            slots=self.slots,
            active=self.running,
            queues=(QUEUE,),
        )
        self.world.say(self, beat)

    def _take(self, said: Said) -> None:
        if not isinstance(said.said, Heartbeat):
            for grant in said.said:
                if grant.to == self.incarnation:
                    self.world.spawn(self._accept(grant, said.at), self)
            return
        self._liveness.take(said.said, said.at)
        self._watched.take(said.said, self.now)
        if said.said.incarnation == self.incarnation:
            self._clock.take(said.at, self.now)

    def _runs_no_more(self, incarnation: str, stray: tuple[str, int, int]) -> bool:
        return self._watched.is_over(incarnation, stray, self.now) or self.world.is_known_dead(self, incarnation)

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
        sink.position = max(sink.position, log.start)
        if sink.position >= log.end or self.sinks.get(partition) is not sink:
            return False
        value = log.found[sink.position].value
        if sink.kept is not None:
            sink.kept.append(JournalEntry(sink.position, value))
        else:
            self._hear(partition, value)
        sink.position += 1
        return True

    def _hear(self, partition: int, value: bytes) -> None:
        if (work := self.owned.get(partition) or self.disowned.get(partition)) is not None:
            work.hear(value)

    def position(self, partition: int) -> int | None:
        sink = self.sinks.get(partition)
        return None if sink is None else sink.position

    def _watch(self, partition: int, since: int | None = None) -> None:
        if partition not in self.sinks:
            self.sinks[partition] = Sink(self.world.journal[partition].end if since is None else since, keeps=False)

    # -- the member of the group: partitions come ----------------------------------------------------------------------

    def _take_over(self, partitions: Sequence[int]) -> Thread:
        self.note("takes over", *partitions)
        while not (yield from self._restores(partitions)):
            yield 0.1
        self.note("owns", *(f"{each} from {self.positions[each]}" for each in partitions))

    def _restores(self, partitions: Sequence[int]) -> Iterator[float]:
        yield self.rng.random() * 0.05
        if self.is_cut:
            return False
        marks = {each: self.world.group.commits.get(each) for each in partitions}
        self.topic = self.world.topic
        self.identity = self.topic.id
        found = {p: None if mark is None else Progress.restore(*mark, self.identity) for p, mark in marks.items()}
        for each in partitions:
            if each in self.disowned:
                self.disowned[each].expect_ledger()
        if not (yield from self._flush(partitions, _FLUSH_TIMEOUT)):
            return False
        sinks = {p: Sink(0 if progress is None else progress.folded, keeps=True) for p, progress in found.items()}
        self.sinks.update(sinks)
        ends = {each: self.world.journal[each].end for each in partitions}
        while any(sinks[each].position < end for each, end in ends.items()):
            yield self.rng.random() * 0.03
        taken = {each: list(sink.kept or ()) for each, sink in sinks.items()}
        for sink in sinks.values():
            sink.kept = []
        ledgers = {each: restore(self.identity, taken[each], found[each])[0] for each in partitions}
        new = [each for each in partitions if found[each] is None and sinks[each].position]
        for each in new:
            self._sum_up(each, ledgers[each], sinks[each].position)
        if not (yield from self._flush(new, 30.0)):
            return False
        for partition, progress in found.items():
            ledger = ledgers[partition]
            work = self._work(partition, ledger)
            work.uncommitted |= ledger.progress.differs(progress or Progress(low=0))
            self.owned[partition] = work
            self.positions[partition] = 0 if progress is None else progress.low
        for partition, sink in sinks.items():
            kept, sink.kept = sink.kept or (), None
            for entry in kept:
                self._hear(partition, entry.value)
        return True

    def _sum_up(self, partition: int, ledger: Ledger, heard: int) -> None:
        def written(offset: int) -> None:
            ledger.progress.check_in(offset, heard)

        self.writer.stream(partition, self.identity).checkpoint(ledger.checkpoint(self.incarnation), written)

    def _work(self, partition: int, ledger: Ledger) -> Work:
        work = self.disowned.pop(partition, None)
        if work is None or work.queue != ledger.queue:
            return self._new_work(partition, ledger)
        work.own(ledger)
        return work

    def _new_work(self, partition: int, ledger: Ledger) -> Work:
        return Work(
            QUEUE,
            partition,
            ledger,
            self,
            membership=self._membership,
            remember=_REMEMBER,
            on_free=lambda record, work: self.buffer.append(Item(record, work, work.term)),
        )

    # -- partitions go -------------------------------------------------------------------------------------------------

    def _give_away(self, partitions: Sequence[int]) -> Thread:
        self.note("gives away", *partitions)
        works = [self.owned[each] for each in partitions if each in self.owned]
        for work in works:
            work.close_down()
        if not (yield from self._flush(partitions, _FLUSH_TIMEOUT)):
            self.cuts.append((self.world.now - _FLUSH_TIMEOUT, self.world.now))  # what runs may be unknown to others
        yield from self._commit_now(works)
        self._lose(partitions)

    def _commit_now(self, works: Sequence[Work]) -> Thread:
        deadline = self.now + _COMMIT_TIMEOUT
        for work in works:
            work.committed = None
        while due := commits._due(works):
            yield self.rng.random() * 0.02
            if commits._refusal(self, due) is None:
                return
            for work in works:
                work.committed = None
            if self.now > deadline:
                return
            yield 0.05

    def _lose(self, partitions: Sequence[int]) -> None:
        for number in partitions:
            if (work := self.owned.pop(number, None)) is not None:
                work.lose()
                self.disowned[number] = work
                self.sinks.pop(number, None)

    # -- the member's thread -------------------------------------------------------------------------------------------

    def _keeps_membership(self) -> Thread:
        last = self.world.now
        while True:
            yield 1.0
            if self.member is None:
                last = self.world.now
            elif self.is_cut:
                self._lost = self._lost or self.world.now - last > SESSION
            elif self.world.group.hear(self.member, self.world.now):
                last = self.world.now
            else:
                self._lost = True

    def _polls(self) -> Thread:
        self._membership.open(self.now)
        looked = committed = -1.0
        while not (self.stopping and not self.running):
            self.writer.serve()
            if self.now - looked >= _LEASES_POLL:
                looked = self.now
                yield from self._look_at_leases()
            yield from self._fetch_wanted()
            yield self.rng.random() * self.writer.patience(0.05)
            yield from self._rebalances()
            while self._answers:
                commits.note_refusals(self.owned, *self._answers.popleft())
            if not self._membership.renew(self.now):
                before = self.now
                yield self.rng.random() * 0.02
                if commits.is_accepted(self, self.owned.values()):
                    self._membership.open(before)
            yield from self._reads()
            if self.now - committed > 0.25:
                committed = self.now
                for work in self.owned.values():
                    work.park()
                    work.check_in()
                commits.commit(self, self.owned.values())
        yield from self._leaves()

    def _rebalances(self) -> Thread:
        group = self.world.group
        if self._lost:
            self.note("has lost", *self.owned)
            self._lose(list(self.owned))
            self._lost, self.member = False, None
        if self.is_cut:
            return
        if self.member is None:
            self._members += 1
            self.member = f"{self.incarnation}:{self._members}"
            group.join(self.member, self.world.now)
        if leaving := group.to_give_up(self.member):
            yield from self._give_away(leaving)
            if not self.is_cut:
                group.give_up(self.member, leaving)
        if not self.is_cut and (coming := group.take(self.member)):
            yield from self._take_over(coming)

    def _leaves(self) -> Thread:
        self.note("leaves")
        yield from self._give_away(list(self.owned))
        if self.member is not None and not self.is_cut:
            self.world.group.leave(self.member)
        yield from self._flush([*self.disowned], _FLUSH_TIMEOUT)
        self.left = True
        self.beat()
        self.world.remove(self)
        yield 0.0

    def _reads(self) -> Thread:
        if self.is_cut:
            return
        if self.topic is not self.world.topic:  # the consumer's client notes that, and begins at the start
            self.topic = self.world.topic
            self.positions = dict.fromkeys(self.positions, 0)
            for work in list(self.owned.values()):
                if work.queue != self.topic.id:
                    self._begin_anew(work)
        for number in list(self.owned):
            log = self.topic.partitions[number]
            for _ in range(self.rng.randint(1, 20)):
                position = self.positions[number] = max(self.positions[number], log.start)
                if position >= log.end:
                    self.owned[number].reach(log.end)
                    break
                self.positions[number] += 1
                record = log.found.get(position)
                if record is None:
                    continue
                work = self.owned[number]
                if work.read(record):
                    self.buffer.append(Item(record, work, work.term))
            yield 0.0005

    def _begin_anew(self, work: Work) -> None:
        self.note("begins anew", work.partition)
        work.lose()
        self.identity = self.topic.id
        self.owned[work.partition] = self._new_work(work.partition, Ledger(self.identity, Progress(low=0)))

    def _look_at_leases(self) -> Thread:
        for number, work in list(self.owned.items()):
            if number in self.sinks:
                for offset, lease in work.leases_elsewhere():
                    if self._runs_no_more(lease.incarnation, (QUEUE, number, offset)):
                        self.note("reclaims", number, offset, *lease)
                        work.reclaim(offset, lease)
                yield 0.0005
        for number, work in [*self.owned.items(), *self.disowned.items()]:
            if not work.needs_journal():
                self.sinks.pop(number, None)

    def _fetch_wanted(self) -> Thread:
        for number, work in list(self.owned.items()):
            for offset in work.wanted():
                yield self.rng.random() * 0.01
                if not self.is_cut and work.queue == self.world.topic.id:
                    work.found(offset, self.world.topic.partitions[number].found.get(offset))

    # -- commits: the methods of a consumer ----------------------------------------------------------------------------

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        if asynchronous:
            self.world.spawn(self._commits(offsets), self)
        elif self._is_refused(offsets):
            raise KafkaException(_REFUSED)
        return offsets

    def _commits(self, offsets: list[TopicPartition]) -> Thread:
        yield 0.001
        if self._is_refused(offsets):
            self._answers.append((_REFUSED, offsets))

    def _is_refused(self, offsets: list[TopicPartition]) -> bool:
        if self.is_cut or self.member is None or not self.world.group.knows(self.member) or self.world.refuses():
            return True
        for each in offsets:
            self.world.commit(each.partition, each.offset, each.metadata)
        return False

    # -- the event loop ------------------------------------------------------------------------------------------------

    def _loop(self) -> Thread:
        while True:
            yield self.rng.random() * 0.03
            while not self.stopping and len(self.waiting) < 2 * self.slots:
                if (item := self._next()) is None:
                    break
                if item.record.expired:
                    self.world.spawn(self._buries(item), self)
                else:
                    self.waiting.append(item)
            while not self.stopping and self.waiting and self.running < self.slots:
                self.running += 1
                self.world.spawn(self._begins(self.waiting.popleft()), self)

    def _next(self) -> Item | None:
        while self.returned or self.buffer:
            item = (self.returned or self.buffer).popleft()
            if item.work.deliver(item.record.offset(), item.term) is not None:
                return item
        return None

    def _buries(self, item: Item) -> Thread:
        """Writes a dead letter, which may take its time, and ends the record without a run."""
        yield self.rng.choice((0.0, 0.0, 3.0))
        self.world.judge.expires(item.record, self)
        item.work.end(item.record.offset())

    def _begins(self, item: Item) -> Thread:
        work, offset = item.work, item.record.offset()
        begun, may_begin = None, None
        while may_begin is None:
            try:
                may_begin = work.begin(offset, item.term)
            except NotConfirmed:
                yield 0.3
        while may_begin and begun is None:
            yield self.rng.random() * 0.004
            try:
                begun = work.confirm(offset, -1.0)  # it looks once
            except NotConfirmed:
                yield 0.02
            else:
                may_begin = begun is not None
        if begun is None:
            self.running -= 1
            return
        yield self.rng.random() * self.rng.choice((0.004, 0.6))
        self.world.spawn(self._runs(item, begun.start_by), self, is_child=True)

    def _runs(self, item: Item, start_by: float | None) -> Thread:
        """The task itself, in a process of the pool."""
        judge, run = self.world.judge, TaskRun(item.record, self)
        if start_by is not None and self.now > start_by:
            self.note("starts too late", item.record)
            self.world.spawn(self._ends(run, item, Outcome.BROKEN_OFF), self)
            return
        judge.starts(run)
        yield self.world.duration()
        outcome = self.world.outcome(run.record)
        if outcome is Outcome.RETRY:
            while self.is_cut:
                yield 0.1
            self.world.send_retry(run.record)
            yield self.rng.random() * 0.01
        judge.finishes(run, outcome)
        self.world.spawn(self._ends(run, item, outcome), self)

    def _ends(self, run: TaskRun, item: Item, outcome: Outcome) -> Thread:
        work, offset = item.work, item.record.offset()
        yield self.rng.random() * 0.01
        if outcome is Outcome.BROKEN_OFF:
            if work.put_back(offset, item.term):
                self.returned.append(item._replace(term=work.term))
        else:
            if outcome is not Outcome.SUCCESS:
                work.will_end(offset, after_retry if outcome is Outcome.RETRY else after_failure)
                yield self.rng.random() * 0.01
            self.world.judge.acknowledges(run, outcome)
            work.end(offset)
        self.running -= 1

    # -- sharing -------------------------------------------------------------------------------------------------------

    def _shares(self) -> Thread:
        while True:
            yield 0.3 + self.rng.random() * 0.4
            since = self._fullness.look(self.running >= self.slots, self.log_time())
            if since is not None and not self.stopping and not self.is_cut:
                yield from self._share(since)

    def _share(self, since: float) -> Thread:
        able = [each for each in (self.buffer, self.waiting) if each]
        peers = idle_peers(self._liveness.peers(since), QUEUE, sum(map(len, able)))
        given: list[Grant] = []
        for items in able:
            kept = []
            while items and len(given) < len(peers):
                item = items.pop()
                self._watch(item.work.partition)
                grant = item.work.give(item.record, item.term, peers[len(given)])
                kept += [item] if grant is None else []
                given += [] if grant is None else [grant]
            items.extend(reversed(kept))
        if given and (yield from self._flush({each.partition for each in given}, _GRANT_TIMEOUT)):
            self.note("grants", *(f"{each.partition}/{each.offset} to {each.to}" for each in given))
            written = {number: work.stream.written_to for number, work in self.owned.items()}
            grants = [each._replace(since=written.get(each.partition) or 0) for each in given]
            for each in grants:
                self._watched.watch(each.to, (QUEUE, each.partition, each.offset), self.now)
            self.world.say(self, grants)

    def _accept(self, grant: Grant, at: float) -> Thread:
        yield self.rng.random() * 0.02
        self.identity = self.world.topic.id
        if self.is_cut or grant.queue != self.identity:
            return
        record = self.world.topic.partitions[grant.partition].found.get(grant.offset)
        yield self.rng.random() * 0.02
        for _ in range(100):  # for a period
            if record is None or self.stopping or grant.partition in self.owned:
                return
            work = self.disowned.get(grant.partition)
            if work is None or work.queue != self.identity:
                work = self._new_work(grant.partition, Ledger(self.identity, Progress(low=0)))
                self.disowned[grant.partition] = work
                work.lose()
            if grant.partition not in self.sinks:
                work.forget_journal()
            self._watch(grant.partition, grant.since + 1)
            if (self.position(grant.partition) or 0) > grant.since:
                if work.accept(grant, record, at):
                    self.buffer.append(Item(record, work, work.term))
                return
            yield 0.01

    # -- keeping the logs short ----------------------------------------------------------------------------------------

    def _trims(self) -> Thread:
        while True:
            yield 3.0
            marks = {number: work.done_with() for number, work in self.owned.items()}
            topic = self.topic
            yield self.rng.random() * 0.5
            if not self.is_cut:
                self.world.trim(topic, marks)
