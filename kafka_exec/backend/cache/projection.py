"""The projection: the control plane's owners copy the ends of tasks into the cache of results, in a thread of their own."""

from __future__ import annotations

import time
from collections.abc import Callable

from kafka_exec.backend.cache.copies import Cache, CopyStep
from kafka_exec.backend.cache.link import REST, Silent
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.results.projection import LogPosition, fold
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.complaints import Complaints
from kafka_exec.kafka.client.loop import Loop
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.feed import Batch, Feed

#: The longest poll, seconds: a change of owners, and the end, are noticed no later.
_POLL = 0.2

#: The projection compares the cache's places with its own this often, seconds: the cache may have been emptied.
_CHECK = 1.0


class Projection:
    """The projection of one node: it fills the cache, from :meth:`start` to :meth:`stop`.

    The owner of partition ``n`` of the control plane's ``m`` partitions copies the states' partitions whose number leaves
    the remainder ``n`` when divided by ``m``. Two owners at the same time, for a moment, do no harm: each moves a place in
    the cache from where it knows it, or not at all.

    Args:
        states: the topic of the state records.
        driven: returns the partitions of the control plane that this node drives, and the number of all its partitions.
        expires: a result is kept so long after its task's end, seconds; None: for ever.
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
        # Under a cooperative scheduler the thread is a greenlet, because gevent and eventlet have patched Redis's sockets.
        self._loop = Loop("projection", self._turn, complaints=Complaints("cache of results"), cooperative=True)

    def start(self) -> None:
        """Starts the projection; a second call changes nothing."""
        self._loop.start()

    def stop(self, timeout: float) -> None:
        """Ends the projection within ``timeout`` seconds. The next owner does a step that was not finished."""
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
        """Copies new records, until the owners change, or the cache's places are not as they were left."""
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

    def _step(self, partition: int, before: LogPosition, batch: Batch, complete: bool) -> CopyStep:
        records = ((record.key(), record.value()) for record in batch.records)
        changes = fold(records, expires=self._expires, now=time.time())
        return CopyStep(partition, before, LogPosition(batch.position, complete), changes)
