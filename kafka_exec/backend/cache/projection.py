"""The projection: the control plane's owners copy the ends of tasks into the cache of results, in a thread of their own."""

from __future__ import annotations

import time
from collections.abc import Callable

from kafka_exec.backend.cache.copies import Cache, Step
from kafka_exec.backend.cache.link import REST, Silent
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.results.projection import Place, fold
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.complaints import Complaints
from kafka_exec.kafka.client.loop import Loop
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.feed import Batch, Feed

#: The longest poll, seconds: bounds what a change of owners and the end wait.
_POLL = 0.2

#: Whether the cache is still as it was left is looked at this often, seconds: it may have been emptied.
_CHECK = 1.0


class Projection:
    """Fills the cache, from :meth:`start` to :meth:`stop`.

    Who drives a partition of the control plane copies those of the states whose number has it as the remainder. Two who
    both do so for a moment do no harm: a place in the cache is moved from where it is, or not at all.

    Args:
        states: the topic of the state records.
        driven: the partitions of the control plane that this node drives, and how many there are.
        expires: how long after its end a result is kept, seconds; None: for ever.
    """

    def __init__(
        self,
        cluster: Cluster,
        states: TopicSpec,
        cache: Cache,
        driven: Callable[[], tuple[frozenset[int], int]],
        expires: float | None,
    ) -> None:
        self._cluster = cluster
        self._states = states
        self._cache = cache
        self._driven = driven
        self._expires = expires
        # Under a cooperative scheduler it is a greenlet: Redis's sockets are the scheduler's.
        self._loop = Loop("projection", self._turn, complaints=Complaints("cache of results"), cooperative=True)

    def start(self) -> None:
        """Begins; a second call changes nothing."""
        self._loop.start()

    def stop(self, timeout: float) -> None:
        """Ends it within ``timeout`` seconds. What is under way will be done by whoever is the next owner."""
        self._loop.stop()
        self._loop.join(timeout)

    def _turn(self) -> None:
        try:
            self._project(self._mine())
            self._loop.pause(_POLL)
        except Silent:
            self._loop.pause(REST)

    def _mine(self) -> frozenset[int]:
        driven, of = self._driven()
        if not driven:
            return frozenset()
        self._cluster.topics.ensure(self._states)
        number = self._cluster.topics.partitions(self._states.name) or 0
        return frozenset(partition for partition in range(number) if partition % of in driven)

    def _project(self, mine: frozenset[int]) -> None:
        """Copies what comes, until the owners change or the cache is not as it was left: then it begins anew."""
        if not mine:
            return
        places = self._cache.places(mine)
        starts = {partition: place.offset for partition, place in places.items()}
        feed = native.call(Feed, self._cluster, self._states.name, starts)
        try:
            at_end: set[int] = set()
            check = time.monotonic() + _CHECK
            while not self._loop.is_stopping and self._mine() == mine:
                batches = native.call(feed.read, _POLL)
                at_end.update(partition for partition, batch in batches.items() if batch.at_end)
                steps = [self._step(n, places[n], batch, n in at_end) for n, batch in batches.items()]
                steps = [step for step in steps if step.after != step.before]
                if steps:
                    if not self._cache.take(steps):
                        return
                    places.update((step.partition, step.after) for step in steps)
                if time.monotonic() > check:
                    if self._cache.places(mine) != places:
                        return
                    check = time.monotonic() + _CHECK
        finally:
            native.call(feed.close)

    def _step(self, partition: int, before: Place, batch: Batch, complete: bool) -> Step:
        records = ((record.key(), record.value()) for record in batch.records)
        changes = fold(records, expires=self._expires, now=time.time())
        return Step(partition, before, Place(batch.position, complete), changes)
