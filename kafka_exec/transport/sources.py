"""The sources of a channel: a work queue, read by members of its groups, or a subscription. Both give out items."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import NamedTuple, Protocol

from confluent_kafka import Message as Record

from kafka_exec.core.message import window
from kafka_exec.core.message.envelope import ordering_key_of
from kafka_exec.core.nodes.heartbeat import Joining
from kafka_exec.core.queue.lanes import Lane, LaneView
from kafka_exec.core.queue.partition.begins import Begun
from kafka_exec.core.queue.pausing import NO_PAUSES, Pause
from kafka_exec.core.worker.sharing import Grant
from kafka_exec.kafka.client.native import Waker
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.queue.finding import among, waiting_at
from kafka_exec.kafka.queue.journal import Journal
from kafka_exec.kafka.queue.letters import bury, letter_of
from kafka_exec.kafka.queue.newcomers import Newcomer
from kafka_exec.kafka.queue.owned import OwnedPartition
from kafka_exec.kafka.queue.reader import GroupReader
from kafka_exec.transport.namespace import Namespace
from kafka_exec.transport.subscriptions import Subscription

logger = logging.getLogger("kafka_exec")


class Item(NamedTuple):
    """A record to deliver.

    Attributes:
        work: the partition that the record belongs to; None for a subscription's.
        step: the queue's priority step that the record was read from, counted from 0.
        redelivered: True if the record may have been delivered before.
        term: the owner's term of the partition in which the record was read.
        error: the error by which its last run was lost.
    """

    record: Record
    work: OwnedPartition | None
    step: int
    redelivered: bool
    term: int = 0
    error: str = ""

    def begin(self) -> bool:
        """Notes that the item's run begins in this process. False: it must not begin, another consumer has it by now."""
        return self.work is None or self.work.begin(self.record.offset(), self.term)

    def confirm(self, timeout: float, *, surely: bool = False) -> Begun | None:
        """Waits until the item may run, after it was begun; see :meth:`OwnedPartition.confirm`."""
        if self.work is None:
            return Begun()
        return self.work.confirm(self.record.offset(), self.term, timeout, surely=surely)

    @property
    def is_ours(self) -> bool:
        """True if this process may begin the item."""
        return self.work is not None and self.work.may_run(self.record.offset(), self.term)

    @property
    def attempts(self) -> int:
        """The number of times that the item's run was begun."""
        return 0 if self.work is None else self.work.attempts(self.record.offset())


class Source(Protocol):
    """A source of items. An item that was taken must be ended or put back."""

    name: str
    ttl: float | None

    def take(self) -> Item | None: ...

    def end(self, item: Item) -> None: ...

    def put_back(self, item: Item) -> None: ...

    def bury(self, item: Item, reason: str, error: str) -> None: ...

    def is_empty(self) -> bool: ...

    def is_paused(self, record: Record) -> bool: ...


class WorkQueue:
    """A work queue that one connection consumes, as a member of the group of each priority step.

    Raises:
        ConnectionFailed: it is not known if the queue is paused.
    """

    def __init__(self, name: str, space: Namespace, wake: Callable[[], None], node: Node | None) -> None:
        space.bindings.load()
        declared = space.declaration(name)
        self.name = name
        self.ttl = declared.ttl
        self._space = space
        self._wake = wake
        self._log_time: Callable[[], float | None] = (lambda: None) if node is None else node.log_time
        self._returned: list[deque[Item]] = [deque() for _ in range(declared.steps)]
        # The taken items whose ordering keys are paused, by key.
        self._aside: dict[str, list[Item]] = {}
        self._told = NO_PAUSES
        self._is_released = False
        self._turn = 0
        self._used_every = None if declared.expires is None else declared.expires / 3
        self._used = 0.0
        self._readers = [
            GroupReader(
                space.cluster,
                topic,
                wake=wake,
                joining=(lambda is_fenced: Joining()) if node is None else node.joining,
                tick=self._look_after,
                journal=None if node is None else Journal(space.cluster, topic, space.journal(name, step), node),
            )
            for step, topic in enumerate(space.queue_topics(name))
        ]
        if node is not None:
            for reader in self._readers:
                node.add_strays(reader.strays)
                node.add_guest_room(reader.topic, reader.accept)

    def _look_after(self) -> None:
        self._tell_pauses()
        if self._is_released:
            self._hand_back()
        now = time.monotonic()
        if self._used_every is not None and now - self._used >= self._used_every:
            self._used = now
            self._space.use_queue(self.name)

    def _tell_pauses(self) -> None:
        """Logs the pauses that have begun or ended since the last call, and has the connection take what may begin now."""
        found = self._space.bindings.pauses(self.name).in_force(self._now())
        before, self._told = self._told, found
        for key, pause in found.changes(before):
            what = f"queue {self.name}" if key is None else f"key {key} of queue {self.name}"
            if pause is None:
                logger.warning("%s is not paused any more", what)
                self._wake()
            else:
                logger.warning("%s is paused by %s: %s", what, pause.by, pause.reason or "no reason is given")

    def pause_of(self, key: str | None) -> Pause | None:
        """The pause that keeps the tasks with an ordering key, or those without one, from beginning now."""
        pauses = self._space.bindings.pauses(self.name)
        return None if pauses is NO_PAUSES else pauses.of(key, self._now())

    def is_paused(self, record: Record) -> bool:
        """True if a task must not begin now, in no process."""
        if self._space.bindings.pauses(self.name) is NO_PAUSES:
            return False  # which needs no look into the record
        return self.pause_of(ordering_key_of(record.headers())) is not None

    def _now(self) -> float:
        return self._log_time() or time.time()

    def take(self) -> Item | None:
        """Takes the next item: of the highest step, now and then of a lower one; returned items come first in their step.

        It takes none that is paused.
        """
        if self.pause_of(None) is not None:
            return None
        if self._aside:
            self._bring_back(key for key in self._aside if self.pause_of(key) is None)
        if len(self._readers) == 1:
            return self._take_from(0)
        if not all(reader.settled for reader in self._readers):
            return None  # urgent messages may still be on their way
        while True:
            waiting = [step for step, reader in enumerate(self._readers) if self._returned[step] or reader.buffer]
            if not waiting:
                return None
            item = self._take_from(window.pick_step(waiting, self._turn))
            if item is not None:
                self._turn += 1
                return item

    def _take_from(self, step: int) -> Item | None:
        while (found := self._next(step)) is not None and self.is_paused(found.record):
            self._aside.setdefault(ordering_key_of(found.record.headers()) or "", []).append(found)
        return found

    def _next(self, step: int) -> Item | None:
        returned = self._returned[step]
        while returned:
            item = returned.popleft()
            if item.work is not None and item.work.deliver(item.record.offset(), item.term) is not None:
                return item
        taken = self._readers[step].take()
        return None if taken is None else Item(taken.record, taken.work, step, taken.redelivered, taken.term)

    def end(self, item: Item) -> None:
        """Ends an item."""
        if item.work is not None:
            item.work.end(item.record.offset())

    def put_back(self, item: Item) -> None:
        """Puts an item back: the owner of its partition delivers it again, before later ones."""
        if item.work is None or not item.work.put_back(item.record.offset(), item.term):
            return
        self._return(item._replace(redelivered=True, term=item.work.term))

    def _return(self, item: Item) -> None:
        returned = self._returned[item.step]
        returned.append(item)
        if len(returned) > 1:
            returned_in_order = sorted(returned, key=lambda other: (other.record.partition(), other.record.offset()))
            returned.clear()
            returned.extend(returned_in_order)

    def _bring_back(self, keys: Iterable[str]) -> None:
        """Has items be taken again that were set aside since their keys were paused."""
        for key in list(keys):
            for item in self._aside.pop(key, ()):
                self._return(item)

    def bury(self, item: Item, reason: str, error: str) -> None:
        """Writes an item to the dead-letter topic, durably, and ends it."""
        letter = letter_of(item.record, self._space.dead_letters(self.name), reason=reason, error=error)
        bury(self._space.cluster.publisher, letter)
        self.end(item)

    def is_empty(self) -> bool:
        """True if no item waits in this process."""
        return not any(self._returned) and not any(reader.buffer for reader in self._readers)

    def settle(self, timeout: float) -> None:
        """Waits until an item can be taken, or the queue is known to be empty; ``timeout`` seconds at most for each step."""
        for reader in self._readers:
            if self.is_empty():
                reader.settle(timeout)

    def commit(self, timeout: float) -> None:
        """Commits the items that have ended; ``timeout`` seconds at most for each step."""
        for reader in self._readers:
            reader.commit(timeout)

    def discard(self) -> None:
        """Ends all items that wait in this process, because the queue is purged."""
        self._bring_back(self._aside)
        for returned in self._returned:
            while returned:
                self.end(returned.popleft())
        for reader in self._readers:
            reader.discard()

    @property
    def waiting(self) -> int:
        """The number of items that wait in this process."""
        return sum(len(reader.buffer) for reader in self._readers)

    def share(self, incarnations: Sequence[str], items: Iterable[Item]) -> list[Grant]:
        """Grants waiting tasks to other incarnations, one to each: the last of the buffer first, then some taken items.

        Items that cannot be granted are put back. A new owner of the partitions knows of the grants.
        """
        granted: list[Grant] = []
        if self.pause_of(None) is not None:
            return granted
        for reader in self._readers:
            granted += reader.made_durable(_give(reader, incarnations[len(granted) :], self.is_paused))
        for item in items:
            given = self.give(item, incarnations[len(granted)]) if len(granted) < len(incarnations) else None
            if given is None:
                self.put_back(item)
            else:
                granted.append(given)
        return granted

    def give(self, item: Item, incarnation: str) -> Grant | None:
        """Grants an item that was taken to another incarnation; None: it was not granted."""
        if item.work is None or self.is_paused(item.record):
            return None
        reader = self._readers[item.step]
        given = reader.give(item.record, item.work, item.term, incarnation)
        # A grant that is not durable is told to no worker, and its lease is soon over.
        return next(iter(reader.made_durable([given])), None) if given is not None else None

    def find(self, ids: Collection[str]) -> list[Record]:
        """The records of tasks with these ids that wait in this process, or in its lanes. It may read Kafka.

        Raises:
            ConnectionFailed: the records could not be read.
        """
        taken = [item for items in (*self._returned, *self._aside.copy().values()) for item in tuple(items)]
        waiting = (waiting_at(reader, self._space.cluster, ids) for reader in self._readers)
        return [*among([each.record for each in taken if each.is_ours], ids), *chain.from_iterable(waiting)]

    def lanes(self) -> list[LaneView]:
        """The lanes in which this process has unfinished tasks."""
        return [view for reader in self._readers for work in reader.works() for view in work.lanes()]

    def newcomers(self) -> Iterator[tuple[Newcomer, OwnedPartition]]:
        """The tasks that have come to wait in lanes of ordering keys since the last call, and still wait."""
        return ((each, work) for reader in self._readers for work in reader.works() for each in work.newcomers())

    def free(self, lane: Lane) -> bool:
        """Frees a lane that waits for a retry or has stopped, because an operator asks for it. False: no lane waits here."""
        freed = [work.free(lane) for reader in self._readers for work in reader.works()]
        return any(freed)

    def release(self) -> None:
        """Has the readers leave their groups when the taken items have ended, because no consumer is left."""
        self._is_released = True
        for reader in self._readers:
            reader.release()

    def _hand_back(self) -> None:
        """Gives the readers back what waits here: they stay in their groups until all that was taken has ended."""
        self._bring_back(self._aside)
        for reader, returned in zip(self._readers, self._returned, strict=True):
            with suppress(IndexError):  # all are given back
                while (item := returned.pop()).work is not None:
                    reader.buffer.appendleft((item.record, item.work, item.term))

    def reclaim(self) -> bool:
        """Takes back a release. False: it is too late, a new :class:`WorkQueue` is needed."""
        self._is_released = False
        reclaimed = [reader.reclaim() for reader in self._readers]
        return all(reclaimed)

    def stop(self) -> None:
        """Tells the readers to commit and leave."""
        for reader in self._readers:
            reader.stop()

    def join(self, timeout: float) -> None:
        """Waits for the readers' end, ``timeout`` seconds in all."""
        deadline = time.monotonic() + timeout
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))


class SubscriptionSource:
    """A subscription that one connection consumes."""

    def __init__(self, subscription: Subscription, waker: Waker) -> None:
        self.name = subscription.name
        self.ttl = subscription.ttl
        self.subscription = subscription
        self._waker = waker

    def attach(self) -> None:
        """Wakes the connection from now on when a message arrives."""
        self.subscription.wakers.append(self._waker)

    def detach(self) -> None:
        """Wakes the connection no more."""
        if self._waker in self.subscription.wakers:
            self.subscription.wakers.remove(self._waker)
        self.subscription.used = time.monotonic()

    def take(self) -> Item | None:
        record = self.subscription.take()
        return None if record is None else Item(record, None, 0, False)

    def end(self, item: Item) -> None:
        """Does nothing: the item left the buffer when it was taken."""

    def put_back(self, item: Item) -> None:
        self.subscription.put_back(item.record)

    def bury(self, item: Item, reason: str, error: str) -> None:
        """Does nothing: a broadcast message gets no dead letter, because no task is lost with it."""

    def is_empty(self) -> bool:
        return not self.subscription

    def is_paused(self, record: Record) -> bool:
        return False


def _give(reader: GroupReader, incarnations: Sequence[str], is_paused: Callable[[Record], bool]) -> list[Grant]:
    """Gives tasks of a reader's buffer that are not paused, the last first, to other incarnations, one task to each."""
    grants: list[Grant] = []
    kept: list[tuple[Record, OwnedPartition, int]] = []
    while len(grants) < len(incarnations):
        try:
            waiting = reader.buffer.pop()
        except IndexError:
            break
        grant = None if is_paused(waiting[0]) else reader.give(*waiting, incarnations[len(grants)])
        if grant is None:
            kept.append(waiting)
        else:
            grants.append(grant)
    reader.buffer.extend(reversed(kept))
    return grants
