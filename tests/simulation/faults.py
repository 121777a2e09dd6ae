"""The faults of the simulated world: some come at any time, others at a moment at which they may do harm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.simulation.brokers import Topic

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.world import World

#: The faults, by name, each with the mean time between two, seconds.
FAULTS = {
    "pause": 6.0,
    "cut": 8.0,
    "lag": 8.0,
    "kill": 10.0,
    "stop": 15.0,
    "rebalance": 8.0,
    "slow": 8.0,
    "purge": 15.0,
    "recreate": 25.0,
    "blackout": 30.0,
}

#: The moments at which faults are aimed: a worker has told that a task begins; may run it; is about to share; has granted
#: tasks in its journal only; has granted them; has accepted one; has read the ledger of a partition that comes; begins no
#: more tasks of one that goes; has sent a retry, and not ended the task; has noted that the task will wait for a retry; is
#: about to park what waits.
MOMENTS = (
    "begun",
    "confirmed",
    "sharing",
    "granting",
    "granted",
    "accepted",
    "restored",
    "closed",
    "retried",
    "ending",
    "parking",
)

#: What happens at such a moment, one or two of these.
AIMED = ("pause", "cut", "lag", "kill", "rebalance", "slow")

#: No fault takes longer, seconds.
_LONGEST = 21.0

#: The mean time between two aimed faults, seconds.
_AIMED_EVERY = 4.0


class Faults:
    """The faults of one simulation.

    Attributes:
        are_over: they have ceased.
        happened: their number.
    """

    def __init__(self, world: World) -> None:
        self._world, self._rng = world, world.rng
        self.are_over = False
        self.happened = 0
        self._topics = 0
        self._next_aimed = self._rng.random() * _AIMED_EVERY

    def happen(self, fault: str) -> Iterator[float]:
        """Has a fault happen now and then."""
        while True:
            yield self._rng.expovariate(1 / FAULTS[fault])
            node = self._world.living()
            if self.are_over:
                return
            if node is not None:
                self._happens(fault, node)

    def aim(self, moment: str, node: Node) -> bool:
        """Has faults happen to a worker at a moment, if they are aimed at such. Returns True if they have."""
        now = self._world.now
        if moment != self._world.plan.moment or self.are_over or now < self._next_aimed:
            return False
        self._next_aimed = now + self._rng.expovariate(1 / _AIMED_EVERY)
        for fault in dict.fromkeys(self._rng.choices(self._world.plan.aimed, k=self._rng.choice((1, 1, 2, 2)))):
            self._happens(fault, node)
        return True

    def _happens(self, fault: str, node: Node) -> None:
        self.happened += 1
        getattr(self, f"_{fault}")(node)

    def _length(self) -> float:
        return self._rng.choice((0.3, 2.0, 5.0, 9.0, 14.0)) * (0.5 + self._rng.random())

    def _until(self) -> float:
        """The end of a fault that begins now."""
        return min(self._world.now + self._length(), self._world.plan.seconds)

    def _pause(self, node: Node) -> None:
        node.paused_until = self._until()
        node.children_go_on = self._rng.random() < 0.5
        node.pauses.append((self._world.now, node.paused_until))
        node.note("is paused", f"until {node.paused_until:.3f}")

    def _cut(self, node: Node) -> None:
        node.cut_until = self._until()
        node.cuts.append((self._world.now, node.cut_until))
        node.note("is cut off", f"until {node.cut_until:.3f}")

    def _lag(self, node: Node) -> None:
        node.lags_until = self._until()
        node.note("gets no answer from the journal", f"until {node.lags_until:.3f}")

    def _kill(self, node: Node) -> None:
        if not node.dead:
            node.note("is killed")
            self._world.remove(node)
            self._world.spawn(self._restart(node.name))

    def _stop(self, node: Node) -> None:
        node.note("is stopped")
        node.stopping = True
        self._world.spawn(self._restart(node.name))

    def _restart(self, name: str) -> Iterator[float]:
        yield 0.2 + self._length() / 3
        while not self._world.nodes[name].dead:
            yield 0.5
        self._world.start(name)

    def _rebalance(self, node: Node) -> None:
        self._world.note("group", "rebalances")
        self._world.group.rebalance()

    def _slow(self, node: Node) -> None:
        node.slow_until = self._until()
        node.note("reads slowly", f"until {node.slow_until:.3f}")

    def _purge(self, node: Node) -> None:
        """An operator deletes what waits, up to the first retry, whose lane would wait for it, or end that some owner may
        not know yet: to that owner the record would have ended by its deletion.
        """
        world, judge = self._world, self._world.judge
        for log in world.topic.partitions:
            doomed = []
            for record in log.found.values():
                if record is None:
                    continue
                is_needed = record.sent_by is not None or record.place in judge.acknowledged
                known = judge.known_ends.get(record.place, world.now)
                if is_needed and known > world.now - _LONGEST:
                    break
                if record.place not in judge.acknowledged:
                    doomed.append(record)
            if doomed:
                world.note("operator", "deletes", *doomed)
                judge.deletes(doomed)
                log.trim(doomed[-1].place.offset + 1)

    def _recreate(self, node: Node) -> None:
        self._topics += 1
        self._world.topic = Topic(self._topics, self._world.plan.partitions)
        self._world.note("client", "deletes the queue and makes it anew", self._world.topic.id)

    def _blackout(self, node: Node) -> None:
        """All workers are killed, for so long that the group has no member; then Kafka may forget its commits."""
        group = self._world.group
        for each in self._world.nodes.values():
            self._kill(each)
        for member in [*group._heard]:
            group.leave(member)
        if self._rng.random() < 0.5:
            self._world.note("group", "forgets its commits")
            group.commits.clear()
            self._world.judge.forgets_commits()
