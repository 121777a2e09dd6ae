"""The member of the group in a simulated worker: how partitions come and go, and what its thread does meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kafka_exec.core.queue.checkpoints import encode_checkpoint
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.restoring import restore
from kafka_exec.kafka.queue import commits
from tests.simulation.brokers import QUEUE, SESSION
from tests.simulation.worker.work import Item, Sink, Thread, Work

if TYPE_CHECKING:
    from tests.simulation.node import Node

#: The longest times that the executor waits, as in ``kafka_exec/kafka/queue``, seconds.
_FLUSH_TIMEOUT, _COMMIT_TIMEOUT, _LEASES_POLL = 2.0, 2.0, 0.2

_REFUSED = KafkaError(KafkaError.UNKNOWN_MEMBER_ID)


class Member:
    """The member of the group, and the consumer of its commits: it has the methods that the executor calls."""

    def __init__(self, node: Node) -> None:
        self._node, self._world, self._rng = node, node.world, node.rng
        self.positions: dict[int, int] = {}
        self.member: str | None = None
        self._members = 0
        self._lost = False
        # The partitions that it has given away, and of which the group has not heard that.
        self._given: list[int] = []
        self._answers: deque[tuple[KafkaError | None, list[TopicPartition]]] = deque()
        self.threads = self._polls(), self._keeps_membership()

    # -- partitions come ----------------------------------------------------------------------

    def _take_over(self, partitions: Sequence[int]) -> Thread:
        self._node.note("takes over", *partitions)
        while not (yield from self._restores(partitions)):
            yield 0.1
        self._node.note("owns", *(f"{each} from {self.positions[each]}" for each in partitions))

    def _restores(self, partitions: Sequence[int]) -> Iterator[float]:
        yield self._rng.random() * 0.05
        if self._node.is_cut:
            return False
        marks = {each: self._world.group.commits.get(each) for each in partitions}
        self._node.topic = self._world.topic
        identity = self._node.identity = self._node.topic.id
        found = {p: None if mark is None else Progress.restore(*mark, self._node.identity) for p, mark in marks.items()}
        for each in partitions:
            if each in self._node.disowned:
                self._node.disowned[each].expect_ledger()
        if not (yield from self._node.flush(partitions, _FLUSH_TIMEOUT)):
            return False
        sinks = {p: Sink(0 if progress is None else progress.folded, keeps=True) for p, progress in found.items()}
        self._node.sinks.update(sinks)
        ends = {each: self._world.journal[each].end for each in partitions}
        while any(sinks[each].position < end for each, end in ends.items()):
            yield self._rng.random() * 0.03
        taken = {each: list(sink.kept or ()) for each, sink in sinks.items()}
        for sink in sinks.values():
            sink.kept = []
        yield from self._node.moment("restored")
        ledgers = {each: restore(self._node.identity, taken[each], found[each])[0] for each in partitions}
        new = [each for each in partitions if found[each] is None and sinks[each].position]
        for each in new:
            self._sum_up(each, ledgers[each], sinks[each].position)
        if not (yield from self._node.flush(new, 30.0)):
            return False
        if self._node.identity != identity:
            return False
        for partition, progress in found.items():
            ledger = ledgers[partition]
            work = self._work(partition, ledger)
            work.uncommitted |= ledger.progress.differs(progress or Progress(low=0))
            self._node.owned[partition] = work
            self._node.watched.own(QUEUE, partition)
            self.positions[partition] = 0 if progress is None else progress.low
        for partition, sink in sinks.items():
            kept, sink.kept = sink.kept or (), None
            for entry in kept:
                self._node.hear(partition, entry.value)
        return True

    def _sum_up(self, partition: int, ledger: Ledger, heard: int) -> None:
        def written(offset: int) -> None:
            ledger.progress.check_in(offset, heard)

        self._node.writer.find(partition, self._node.identity).checkpoint(
            encode_checkpoint(ledger, self._node.incarnation, heard), written
        )

    def _work(self, partition: int, ledger: Ledger) -> Work:
        work = self._node.disowned.get(partition)
        if work is None or work.queue != ledger.queue:
            return self._node.new_work(partition, ledger)
        del self._node.disowned[partition]
        work.own(ledger)
        return work

    # -- partitions go -------------------------------------------------------------------------------------------------

    def _give_away(self, partitions: Sequence[int]) -> Thread:
        self._node.note("gives away", *partitions)
        works = [self._node.owned[each] for each in partitions if each in self._node.owned]
        for work in works:
            work.close_down()
        yield from self._node.moment("closed")
        if not (yield from self._node.flush(partitions, _FLUSH_TIMEOUT)):
            self._node.untold.append((self._world.now - _FLUSH_TIMEOUT, self._world.now))
        yield from self._commit_now(works)
        self._lose(partitions)

    def _commit_now(self, works: Sequence[Work]) -> Thread:
        deadline = self._node.now + _COMMIT_TIMEOUT
        for work in works:
            work.committed = None
        while due := commits._due(works):
            yield self._rng.random() * 0.02
            if commits._refusal(self, due) is None:
                return
            for work in works:
                work.committed = None
            if self._node.now > deadline:
                return
            yield 0.05

    def _lose(self, partitions: Sequence[int]) -> None:
        for number in partitions:
            if (work := self._node.owned.pop(number, None)) is not None:
                work.lose()
                self._node.disowned[number] = work
                self._node.sinks.pop(number, None)

    # -- the member's thread -------------------------------------------------------------------------------------------

    def _keeps_membership(self) -> Thread:
        last = self._world.now
        while True:
            yield 1.0
            if self.member is None:
                last = self._world.now
            elif self._node.is_cut:
                self._lost = self._lost or self._world.now - last > SESSION
            elif self._world.group.hear(self.member, self._world.now):
                last = self._world.now
            else:
                self._lost = True

    def _polls(self) -> Thread:
        self._node.membership.open(self._node.now)
        looked = committed = -1.0
        while not (self._node.stopping and not self._node.pool.running):
            self._node.writer.serve()
            if self._node.now - looked >= _LEASES_POLL:
                looked = self._node.now
                yield from self._look_at_leases()
            yield from self._fetch_wanted()
            yield self._rng.random() * self._node.writer.patience(0.05)
            yield from self._rebalances()
            while self._answers:
                commits.note_refusals(self._node.owned, *self._answers.popleft())
            if not self._node.membership.renew(self._node.now):
                before = self._node.now
                yield self._rng.random() * 0.02
                if commits.is_accepted(self, self._node.owned.values()):
                    self._node.membership.open(before)
            yield from self._reads()
            if self._node.now - committed > 0.25:
                committed = self._node.now
                yield from self._node.moment("parking")
                for work in self._node.owned.values():
                    work.park()
                    work.check_in()
                commits.commit(self, self._node.owned.values())
        yield from self._leaves()

    def _rebalances(self) -> Thread:
        group = self._world.group
        if self._lost:
            self._node.note("has lost", *self._node.owned)
            self._lose(list(self._node.owned))
            self._lost, self.member = False, None
            self._given.clear()
        if self._node.is_cut:
            return
        if self.member is None:
            self._members += 1
            self.member = f"{self._node.incarnation}:{self._members}"
            group.join(self.member, self._world.now)
        if leaving := group.to_give_up(self.member):
            yield from self._give_away(leaving)
            self._given += leaving
        if not self._node.is_cut:
            group.give_up(self.member, self._given)
            self._given.clear()
        if not self._node.is_cut and (coming := group.take(self.member)):
            yield from self._take_over(coming)

    def _leaves(self) -> Thread:
        self._node.note("leaves")
        yield from self._give_away(list(self._node.owned))
        if self.member is not None and not self._node.is_cut:
            self._world.group.leave(self.member)
        yield from self._node.flush([*self._node.disowned], _FLUSH_TIMEOUT)
        self._node.left = True
        self._node.beat()
        self._world.remove(self._node)
        yield 0.0

    def _reads(self) -> Thread:
        if self._node.is_cut:
            return
        self._node.topic = self._world.topic
        for work in list(self._node.owned.values()):
            if work.queue != self._node.topic.id:  # the consumer's client notes that, and begins at the start
                self.positions[work.partition] = 0
                self._begin_anew(work)
        for number in list(self._node.owned):
            log = self._node.topic.partitions[number]
            for _ in range(self._rng.randint(1, 20)):
                position = self.positions[number] = max(self.positions[number], log.start)
                if position >= log.end:
                    self._node.owned[number].reach(log.end)
                    break
                self.positions[number] += 1
                record = log.found.get(position)
                if record is None:
                    continue
                work = self._node.owned[number]
                if work.read(record):
                    self._node.pool.buffer.append(Item(record, work, work.term))
            yield 0.0005

    def _begin_anew(self, work: Work) -> None:
        self._node.note("begins anew", work.partition)
        work.lose()
        self._node.identity = self._node.topic.id
        self._node.owned[work.partition] = self._node.new_work(
            work.partition, Ledger(self._node.identity, Progress(low=0))
        )

    def _look_at_leases(self) -> Thread:
        for number, work in list(self._node.owned.items()):
            if number in self._node.sinks:
                for offset, lease in work.leases_elsewhere():
                    if self._node.runs_no_more(lease.incarnation, (QUEUE, number, offset)):
                        self._node.note("reclaims", number, offset, *lease)
                        work.reclaim(offset, lease)
                yield 0.0005
        for number, work in [*self._node.owned.items(), *self._node.disowned.items()]:
            if not work.needs_journal():
                self._node.sinks.pop(number, None)

    def _fetch_wanted(self) -> Thread:
        for number, work in list(self._node.owned.items()):
            for offset in work.wanted():
                yield self._rng.random() * 0.01
                if not self._node.is_cut and work.queue == self._world.topic.id:
                    work.found(offset, self._world.topic.partitions[number].found.get(offset))

    # -- commits: the methods of a consumer ----------------------------------------------------------------------------

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        if asynchronous:
            self._world.spawn(self._commits(offsets, self.member), self._node)
        elif self._is_refused(offsets, self.member):
            raise KafkaException(_REFUSED)
        return offsets

    def _commits(self, offsets: list[TopicPartition], member: str | None) -> Thread:
        yield 0.001
        if self._is_refused(offsets, member):
            self._answers.append((_REFUSED, offsets))

    def _is_refused(self, offsets: list[TopicPartition], member: str | None) -> bool:
        # A commit is a sign of its member, as a heartbeat is.
        if self._node.is_cut or member is None or not self._world.group.hear(member, self._world.now):
            return True
        if self._world.refuses():
            return True
        for each in offsets:
            self._world.commit(each.partition, each.offset, each.metadata)
        return False

    # -- keeping the logs short ----------------------------------------------------------------------------------------

    def trims(self) -> Thread:
        while True:
            yield 3.0
            marks = {number: work.done_with() for number, work in self._node.owned.items()}
            topic = self._node.topic
            yield self._rng.random() * 0.5
            if not self._node.is_cut:
                self._world.trim(topic, marks)
