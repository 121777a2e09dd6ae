"""The sharing of tasks in a simulated worker: it gives waiting tasks to idle workers, and accepts those of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.worker.sharing import Fullness, Grant, idle_peers
from tests.simulation.brokers import QUEUE, Record
from tests.simulation.worker.work import Item, Thread

if TYPE_CHECKING:
    from tests.simulation.node import Node

#: Making grants durable may take so long, as in ``kafka_exec/kafka/queue``, seconds.
_GRANT_TIMEOUT = 0.5


class Sharing:
    """The giver, and the guest."""

    def __init__(self, node: Node) -> None:
        self._node, self._world, self._rng = node, node.world, node.rng
        self._pool = node.pool
        self._fullness = Fullness()
        self.threads = (self._shares(),)

    def _shares(self) -> Thread:
        while True:
            yield 0.3 + self._rng.random() * 0.4
            since = self._fullness.look(self._pool.running >= self._pool.slots, self._node.log_time())
            if since is not None and not self._node.stopping and not self._node.is_cut:
                yield from self._share(since)

    def _share(self, since: float) -> Thread:
        able = [each for each in (self._pool.buffer, self._pool.waiting) if each]
        peers = idle_peers(self._node.liveness.peers(since), QUEUE, sum(map(len, able)))
        if peers:
            yield from self._node.moment("sharing")
        given: list[Grant] = []
        for items in able:
            kept = []
            while items and len(given) < len(peers):
                item = items.pop()
                self._node.watch(item.work.partition)
                grant = item.work.give(item.record, item.term, peers[len(given)])
                kept += [item] if grant is None else []
                given += [] if grant is None else [grant]
            items.extend(reversed(kept))
        if given:
            yield from self._node.moment("granting")
        if given and (yield from self._node.flush({each.partition for each in given}, _GRANT_TIMEOUT)):
            owned = self._node.owned
            told = [owned[each.partition].durable(each) for each in given if each.partition in owned]
            grants = [each for each in told if each is not None]
            self._node.note("grants", *(f"{each.partition}/{each.offset} to {each.to}" for each in grants))
            for each in grants:
                self._node.watched.watch(each.to, (QUEUE, each.partition, each.offset), self._node.now)
            self._world.say(self._node, grants)
            yield from self._node.moment("granted")

    def accept(self, grant: Grant, at: float) -> Thread:
        yield self._rng.random() * 0.02
        self._node.identity = self._node.identity if self._node.owned else self._world.topic.id
        if self._node.is_cut or grant.queue != self._node.identity:
            return
        record = self._world.topic.partitions[grant.partition].found.get(grant.offset)
        yield self._rng.random() * 0.02
        for _ in range(100):  # for a period
            if record is None or self._node.stopping or grant.partition in self._node.owned:
                return
            if grant.queue != self._node.identity:
                return
            if (admitted := self._admits(grant, record, at)) is not None:
                yield from self._node.moment("accepted") if admitted else ()
                return
            yield 0.01

    def _admits(self, grant: Grant, record: Record, at: float) -> bool | None:
        """Takes a granted task if it may. Returns None if the journal is not heard up to the grant yet."""
        work = self._node.disowned.get(grant.partition)
        if work is None or work.queue != self._node.identity:
            work = self._node.new_work(grant.partition, Ledger(self._node.identity, Progress(low=0)))
            self._node.disowned[grant.partition] = work
            work.lose()
        if grant.partition not in self._node.sinks:
            work.miss_journal()
        self._node.watch(grant.partition, grant.since + 1)
        if (self._node.position(grant.partition) or 0) <= grant.since:
            return None
        if is_taken := work.accept(grant, record, at):
            self._pool.buffer.append(Item(record, work, work.term))
        return is_taken
