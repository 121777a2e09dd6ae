"""Consuming a work queue's topic: a member of its consumer group, in a native thread of its own.

The thread never ceases to poll, so a task of hours does not cost the membership. It puts the records into a bounded buffer.
The consumer takes them from there, and tells their ends in any order and from any thread. The thread commits the lowest
unfinished offset on a short timer, before it gives partitions away, and at the close. A worker keeps a journal too, from
which the new owner knows the tasks that run, and starts only the rest.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.core.nodes.heartbeat import Joining
from kafka_exec.core.nodes.rejoining import Rejoining
from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.calls import Calls
from kafka_exec.kafka.client.complaints import Complaints, Setback
from kafka_exec.kafka.client.failures import failure, translate
from kafka_exec.kafka.client.loop import Loop
from kafka_exec.kafka.client.offsets import LATEST, look_up
from kafka_exec.kafka.client.profiles import member
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.publish import meters
from kafka_exec.kafka.queue import commits
from kafka_exec.kafka.queue.journal import Journal
from kafka_exec.kafka.queue.owned import OwnedPartition
from kafka_exec.kafka.queue.ownership import Ownership

logger = logging.getLogger("kafka_exec")

_BATCH = 500
_IDLE_POLL = 1.0

#: How long finding the ends of partitions may take, seconds.
_LOOK_UP_TIMEOUT = 5.0

#: A pattern of topics that no topic has: with it a subscription is another one, and means the same.
_NO_TOPIC = "^$"

#: The time that an unused reader stays in its group, in case the process consumes again, seconds.
_LINGER = 1.0

#: How long leaving the group may take, seconds.
_LEAVE_TIMEOUT = 2.0


class Fenced(Setback):
    """Kafka says that another process has the place of this member, which is no proof: so it says after an outage too."""


class Handed(NamedTuple):
    """A record that is given to a consumer.

    Attributes:
        term: the term of its partition in which it is given; see :class:`OwnedPartition`.
        redelivered: it may have been given to a consumer before.
    """

    record: Record
    work: OwnedPartition
    term: int
    redelivered: bool


class GroupReader:
    """A member of the consumer group of one topic; the group has the topic's name.

    Args:
        cluster: the cluster of the topic.
        topic: the topic's name; the topic must exist.
        wake: called from any thread when there is a record to take.
        tick: called in the reader's thread every second or more often.
        joining: returns the way to join the group. Called with True if Kafka has fenced the member before.
        journal: a worker's; None: other workers are not told which tasks run here, nor this one which run there.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        *,
        wake: Callable[[], None],
        joining: Callable[[bool], Joining] = lambda is_fenced: Joining(),
        tick: Callable[[], None] = lambda: None,
        journal: Journal | None = None,
    ) -> None:
        self.topic = topic
        self.buffer: deque[tuple[Record, OwnedPartition, int]] = deque()
        self.assigned = False
        #: True if all records that were there when it joined were read, or there is one to take.
        self.settled = False
        self._cluster = cluster
        self._settings = cluster.settings
        self._wake = wake
        self._joining = joining
        self._tick = tick
        self._ownership = Ownership(
            cluster, topic, journal, is_stopping=lambda: self._loop.is_stopping, on_free=self._hand_out
        )
        #: The tasks that this process runs though another worker owns their partitions now.
        self.strays = self._ownership.strays
        #: The parts of sharing tasks with other workers.
        self.accept = self._ownership.accept
        self.give = self._ownership.give
        self.made_durable = self._ownership.made_durable
        self._failure: Exception | None = None
        self._owned = self._ownership.owned
        self._paused = False
        self._released: float | None = None
        self._lock = native.lock()
        self._calls = Calls(_IDLE_POLL)
        self._consumer: Consumer | None = None
        self._last_commit = 0.0
        self._complaints = Complaints(f"consuming {topic}")
        self._is_fenced = self._is_wider = False
        self._rejoining = Rejoining()
        self._loop = Loop(topic, self._be_member, complaints=self._complaints)
        self._loop.start()

    # -- called by the consumer ----------------------------------------------------------------------------------------

    def take(self) -> Handed | None:
        """The next record to deliver, of a partition that is still owned."""
        while self.buffer:
            try:
                record, work, term = self.buffer.popleft()
            except IndexError:
                return None  # another thread was quicker
            redelivered = work.deliver(record.offset(), term)
            if redelivered is not None:
                return Handed(record, work, term, redelivered)
        return None

    @property
    def outstanding(self) -> int:
        """The number of records that were read from owned partitions and have not ended."""
        return sum(work.outstanding for work in list(self._owned.values()))

    def works(self) -> list[OwnedPartition]:
        """The partitions that this member owns."""
        return list(self._owned.values())

    def discard(self) -> None:
        """Forgets the records that wait here, for a purge: they count as read and ended."""
        for work in self.works():
            work.purge()
        self.buffer.clear()

    def settle(self, timeout: float) -> None:
        """Waits until a record can be taken, or all records that were there at the time of the call were read."""
        deadline = time.monotonic() + timeout
        while not self.assigned and time.monotonic() < deadline:
            time.sleep(0.005)
        if self.buffer or not self._owned:
            return
        ends = self._calls.ask(self._find_ends, timeout)
        while time.monotonic() < deadline and not self.buffer:
            owned = dict(self._owned)
            if all(owned[n].position >= end for n, end in ends.items() if n in owned):
                return
            time.sleep(0.002)

    def commit(self, timeout: float) -> None:
        """Commits all ends so far, so that a count of the records that are left is right."""
        self._calls.ask(self._commit_all, timeout)

    def release(self) -> None:
        """Tells the reader that no consumer is left: it leaves when the taken records have ended, unless reclaimed."""
        self._released = time.monotonic()

    def reclaim(self) -> bool:
        """Takes back a release. Returns False if the reader has left already."""
        with self._lock:
            self._released = None
            return not self._loop.is_stopping

    def _is_abandoned(self) -> bool:
        """Returns True if there was no consumer for a while, and all taken records have ended. Stops the reader then."""
        released = self._released
        if released is None or time.monotonic() - released < _LINGER or self.outstanding > len(self.buffer):
            return False
        with self._lock:
            if self._released is not None:
                self._loop.stop()
            return self._loop.is_stopping

    def stop(self) -> None:
        """Tells the reader to commit, to leave the group and to end."""
        self._loop.stop()

    def join(self, timeout: float) -> bool:
        """Waits for the end after :meth:`stop`. Returns False if it has not come within ``timeout`` seconds."""
        return self._loop.join(timeout)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _be_member(self) -> None:
        """Runs one membership, until the reader is stopped or an error concerns all of it."""
        static_id = self._find_static_id()
        self._is_fenced = False
        try:
            self._consume(static_id)
        except Fenced:
            self._is_fenced = True
            raise

    def _find_static_id(self) -> str | None:
        try:
            found = self._joining(self._is_fenced)
        except ConnectionFailed:
            raise  # it is known after the outage
        except Exception as error:
            self._complaints.tell(error, "; no worker of the same name is looked for")
            found = Joining()
        self._rejoining.join(found)
        return found.static_id

    def _consume(self, static_id: str | None) -> None:
        properties = member(self._settings, self.topic, static_id)
        on_commit = partial(commits.note_refusals, self._owned)
        consumer = self._cluster.new_consumer({**properties, "on_commit": on_commit})
        self.assigned = self._is_wider = False
        self._subscribe(consumer, self.topic)
        self._consumer = consumer
        try:
            while not self._loop.is_stopping and not self._is_abandoned():
                self._step(consumer)
            self._leave(consumer)
        finally:
            self._consumer = None
            self._ownership.close()
            consumer.close()
            self._cluster.forget(consumer)
            meters.left(self.topic)

    def _subscribe(self, consumer: Consumer, *topics: str) -> None:
        consumer.subscribe(
            list(topics),
            on_assign=self._guarded(self._on_assign),
            on_revoke=self._guarded(self._on_revoke),
            on_lost=self._guarded(self._on_lost),
        )

    def _join_again(self, consumer: Consumer) -> None:
        """Joins the group again. The client library does so only if the subscription changes."""
        self._is_wider = not self._is_wider
        self._subscribe(consumer, self.topic, *([_NO_TOPIC] if self._is_wider else []))

    def _hand_out(self, record: Record, work: OwnedPartition) -> None:
        """Puts a record into the buffer. Called in the thread that has ended the task before it in its lane."""
        self.buffer.append((record, work, work.term))
        self._wake()

    def _step(self, consumer: Consumer) -> None:
        meters.turned(self.topic, len(self._owned))
        busy = any(work.outstanding or work.uncommitted for work in self._owned.values())
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        self._ownership.look_at_leases()
        self._ownership.fetch_wanted()
        self._calls.serve()
        longest = self._calls.poll_time
        if busy or self._released:
            longest = min(longest, self._settings.commit_interval)
        self._ownership.look_at_topic(consumer)
        first = consumer.poll(self._ownership.patience(longest))
        self._ownership.look(consumer)
        if self._rejoining.is_due(time.monotonic()):
            self._join_again(consumer)
        if first is not None:
            for record in [first, *consumer.consume(_BATCH, 0)]:
                if not self._read(consumer, record):
                    break  # the partitions begin anew: the rest of this batch is read again, in its order
            if not self.settled:
                self.settled = bool(self.buffer) or all(work.position >= 0 for work in self._owned.values())
                self._wake()
            if self.buffer:
                self._wake()
        self._flow(consumer)
        self._ownership.trim(self._settings.audit_retention)
        self._tick()
        if time.monotonic() - self._last_commit >= self._settings.commit_interval:
            self._last_commit = time.monotonic()
            for work in self._owned.values():
                work.park()
                work.check_in()
            if busy:
                commits.commit(consumer, self._owned.values())
        if self._cluster.health.down_since is not None:
            self._cluster.ask_again(consumer, self.topic)

    def _read(self, consumer: Consumer, record: Record) -> bool:
        """Takes in a record, or an event. Returns False if all partitions begin anew because of it."""
        error = record.error()
        work = self._owned.get(record.partition())
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF and work is not None:
                work.reach(record.offset())
            elif error.code() != KafkaError._PARTITION_EOF and record.topic() != _NO_TOPIC:
                self._failed(error)
            return True
        if work is None:
            return True
        if record.offset() < work.expected:
            # Offsets only grow, unless the topic was deleted and made anew, or has lost records with its leader.
            self._ownership.look_at_topic(consumer, suspicious=True)
            if self._owned.get(record.partition()) is not work:
                return False
        if work.read(record):
            self.buffer.append((record, work, work.term))
        return True

    def _failed(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED):
            raise Fenced("Kafka has ended its membership")
        translated = translate(error, f"consuming {self.topic}")
        if failure(error) is Failure.FATAL:
            raise translated  # the thread begins anew with another client
        self._complaints.warn(str(translated))

    def _flow(self, consumer: Consumer) -> None:
        """Pauses at a full buffer and resumes at a quarter of it: a pause throws away what librdkafka has fetched ahead."""
        high = self._settings.buffer
        if self._paused and len(self.buffer) <= high // 4:
            self._paused = False
            consumer.resume(self._partitions())
        elif not self._paused and len(self.buffer) >= high:
            self._paused = True
            consumer.pause(self._partitions())

    def _partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self.topic, number) for number in self._owned]

    def _find_ends(self) -> dict[int, int]:
        if self._consumer is None:
            return {}
        wanted = [TopicPartition(self.topic, number, LATEST) for number in self._owned]
        return {p.partition: p.offset for p in look_up(self._consumer, wanted, _LOOK_UP_TIMEOUT)}

    def _commit_all(self) -> None:
        if self._consumer is not None:
            commits.commit_now(self._consumer, self._owned.values())

    def _leave(self, consumer: Consumer) -> None:
        """Leaves so that other members get the partitions at once: a static one would keep them for its session timeout."""
        commits.commit_now(consumer, self._owned.values())
        consumer.unsubscribe()
        deadline = time.monotonic() + _LEAVE_TIMEOUT
        while self._owned and time.monotonic() < deadline:
            consumer.poll(0.05)

    # -- rebalance callbacks: called within poll() in the thread; an exception in them would end in a bare SystemError ----

    def _guarded(self, handler: Callable[[Consumer, list[TopicPartition]], None]) -> Callable[..., None]:
        def call(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            try:
                handler(consumer, partitions)
            except Exception as error:
                # The handler has not done its work: the thread begins anew as a new member.
                self._failure = error

        return call

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        meters.assigned(self.topic)
        if partitions:
            consumer.incremental_assign(self._ownership.take_over(consumer, partitions))
            if self._paused:
                consumer.pause(partitions)
        self.assigned = True
        self._rejoining.assigned()
        self.settled = self.settled or not self._owned
        self._wake()

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        meters.handed_over(self.topic, len(partitions))
        self._ownership.give_away(consumer, [p.partition for p in partitions])
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        meters.handed_over(self.topic, len(partitions))
        self._ownership.lose([p.partition for p in partitions])
        consumer.incremental_unassign(partitions)
