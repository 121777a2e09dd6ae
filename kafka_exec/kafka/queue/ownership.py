"""The partitions that a member of a group owns: how it restores them when they come, and hands them over when they go."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from kafka_exec.core.nodes.liveness import membership
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.worker.sharing import Grant
from kafka_exec.errors import AccessRefused, ConnectionFailed, KafkaExecError
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.loop import run_once
from kafka_exec.kafka.client.offsets import committed
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Fetcher
from kafka_exec.kafka.queue import commits
from kafka_exec.kafka.queue.journal import Journal
from kafka_exec.kafka.queue.owned import OwnedPartition
from kafka_exec.kafka.queue.trimming import Trimmer

logger = logging.getLogger("kafka_exec")

#: How long one request for the commits of a group may take, seconds.
_COMMITTED_TIMEOUT = 5.0

#: How long a takeover is tried, and the pause between two tries, seconds: Kafka gives up a member that does not poll.
_RESTORE_TIMEOUT = 60.0
_RESTORE_PAUSE = 0.1

#: How long an owner that gives partitions away waits until its journal is durable, seconds.
_FLUSH_TIMEOUT = 2.0

#: How long an owner without a journal, before it gives partitions away, waits for the ends of their tasks, seconds: the new
#: owner runs those again that still run then.
_HANDOVER_GRACE = 5.0

#: How long closing the reader of single records may take, seconds.
_CLOSE_TIMEOUT = 1.0

#: How long making grants durable may take, seconds.
_GRANT_TIMEOUT = 0.5

#: The pause between two looks whether the topic is still the same, and whether there are partitions of it again, seconds.
_TOPIC_POLL = 10.0
_MISSING_POLL = 1.0

#: The pause between two looks at the leases of other workers, seconds.
_LEASES_POLL = 0.2


class Ownership:
    """The partitions of one topic that one member owns, and those it has owned.

    The methods of sharing, and :meth:`strays`, may be called in any thread, the others only in the member's.

    Args:
        is_stopping: returns True if the member is to end at once.
        on_free: called with a record that had to wait in its lane, and is to be handed out now; from any thread.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        journal: Journal | None,
        *,
        is_stopping: Callable[[], bool],
        on_free: Callable[[Record, OwnedPartition], None],
    ) -> None:
        self.owned: dict[int, OwnedPartition] = {}
        self._cluster = cluster
        self._topic = topic
        self._journal = journal
        self._membership = membership(cluster.settings.session_timeout)
        self._membership.open(time.monotonic())
        self._is_stopping = is_stopping
        self._on_free = on_free
        self._fetcher = Fetcher(cluster, topic)
        self._identity = ""
        if journal is not None:
            journal.heard, journal.missed = self._hear, self._miss
        # Guards partitions that come and go in the member's thread, while other threads share their tasks.
        self._lock = native.lock()
        self._disowned: dict[int, OwnedPartition] = {}
        self._looked_at_leases = self._next_look_at_topic = 0.0
        self._trimmer = None if journal is None else Trimmer(journal, topic)

    def strays(self) -> list[tuple[str, int, int]]:
        """The tasks that this process runs in partitions that other workers own now: topic, partition and offset of each."""
        return [stray for work in list(self._disowned.values()) for stray in work.strays()]

    # -- coming --------------------------------------------------------------------------------------------------------

    def take_over(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Takes over partitions that have come. Returns the offsets at which to read on.

        The member waits for the end of an outage: to leave the group, and to join it again, would be worse.

        Raises:
            ConnectionFailed: their commits or journals could not be read for :data:`_RESTORE_TIMEOUT` seconds.
            ChannelFailed, Forbidden: the cluster refuses to have them read.
        """
        deadline = time.monotonic() + _RESTORE_TIMEOUT
        told = False
        while True:
            try:
                return self._take_over(committed(consumer, partitions, _COMMITTED_TIMEOUT), again=told)
            except ConnectionFailed as error:
                if isinstance(error, AccessRefused) or self._is_stopping() or time.monotonic() > deadline:
                    raise
                if not told:
                    logger.warning(f"taking over partitions of {self._topic}: {error}; trying until it succeeds")
                    told = True
                native.sleep(_RESTORE_PAUSE)

    def _take_over(self, marks: list[TopicPartition], *, again: bool) -> list[TopicPartition]:
        self._identify()
        identity, found = self._identity, {p.partition: self._committed(p) for p in marks}
        if self._journal is None:
            ledgers = {partition: self._ledger(progress) for partition, progress in found.items()}
        else:
            if again:
                self._journal.make(found, anew=True)  # it may have been deleted with its queue
            self._tell_all(self._journal, found)
            ledgers = self._journal.restore(found)
        if self._identity != identity:
            raise ConnectionFailed("it was made anew meanwhile, as a granted task has told")
        with self._lock:
            for partition, progress in found.items():
                work = self._work(partition, ledgers[partition])
                # The last owner's journal may be ahead of its last commit.
                work.uncommitted |= ledgers[partition].progress.differs(progress or Progress(low=0))
                self.owned[partition] = work
        if any(work.queue != identity for work in self.owned.values()):
            self._next_look_at_topic = 0.0  # it was made anew, and other partitions of it are owned already
        if self._journal is not None:
            self._journal.node.own(self._topic, ledgers)
            self._journal.listen(ledgers)
        starts = {each: OFFSET_BEGINNING if progress is None else progress.low for each, progress in found.items()}
        return [TopicPartition(self._topic, partition, offset) for partition, offset in starts.items()]

    def _committed(self, mark: TopicPartition) -> Progress | None:
        """The progress of a commit; None if there is none, or if it is of a topic that had this name before."""
        return Progress.restore(mark.offset, mark.metadata, self._identity) if mark.offset >= 0 else None

    def _identify(self) -> None:
        """Looks up the id of the topic: a topic that is deleted and made anew has other offsets under the same name."""
        self._identity = self._cluster.topics.identity(self._topic)
        if self._journal is not None:
            self._journal.identity = self._identity

    def _tell_all(self, journal: Journal, partitions: Collection[int]) -> None:
        """Makes durable, before their journal is read, what this process told of partitions that it did not own."""
        for each in partitions:
            if (work := self._disowned.get(each)) is not None:
                work.expect_ledger()
        if not journal.writer.flush(partitions, _FLUSH_TIMEOUT):
            raise ConnectionFailed(f"what runs in {self._topic} could not be told within {_FLUSH_TIMEOUT:.0f} s")

    def _work(self, partition: int, ledger: Ledger) -> OwnedPartition:
        work = self._disowned.get(partition)
        if work is None or work.queue != ledger.queue:
            return self._new_work(partition, ledger)
        del self._disowned[partition]
        work.own(ledger)
        return work

    def _new_work(self, partition: int, ledger: Ledger) -> OwnedPartition:
        if (gone := self._disowned.pop(partition, None)) is not None:
            gone.lose()  # what is about to run there would wait for a journal that it does not hear any more
        return OwnedPartition(
            self._topic,
            partition,
            ledger,
            self._journal,
            membership=self._membership,
            remember=self._cluster.settings.deduplication_retention,
            on_free=self._on_free,
        )

    def look(self, consumer: Consumer) -> None:
        """Notes that the member has polled. If the group may have given it up after a long stop, it asks by a commit."""
        now = time.monotonic()
        if not self._membership.renew(now) and commits.is_accepted(consumer, self.owned.values()):
            self._membership.open(now)

    def look_at_topic(self, consumer: Consumer, *, suspicious: bool = False) -> None:
        """Begins all partitions anew if the topic was deleted and made again: all that is known of the old one is void.

        The client library reads on at the old offset, and says nothing, if the new topic has as many records.

        Args:
            suspicious: there is a sign of it, so that it is looked at now.
        """
        now = time.monotonic()
        if not self._identity or (now < self._next_look_at_topic and not suspicious):
            return
        if not self.owned:
            self._next_look_at_topic = now + _MISSING_POLL
            with suppress(KafkaException):  # the client library looks for partitions, which it would do much later
                consumer.list_topics(self._topic, _COMMITTED_TIMEOUT)
            return
        self._next_look_at_topic = now + _TOPIC_POLL
        try:
            self._identify()
        except KafkaExecError as error:
            logger.debug("whether %s is still the same topic is not known: %s", self._topic, error)
            return
        if stale := [each for each, work in self.owned.items() if work.queue != self._identity]:
            logger.warning(f"{self._topic} was deleted and made anew: its tasks are read from the first one on")
            self._begin_anew(consumer, stale)

    def _begin_anew(self, consumer: Consumer, partitions: Sequence[int]) -> None:
        self.lose(partitions)
        for each in [each for each, work in self._disowned.items() if work.queue != self._identity]:
            self._disowned.pop(each).lose()
        if self._journal is not None:
            self._journal.make(partitions, anew=True)
        with self._lock:
            for each in partitions:
                self.owned[each] = self._new_work(each, self._ledger(None))
        for each in partitions:
            consumer.seek(TopicPartition(self._topic, each, OFFSET_BEGINNING))

    def _ledger(self, progress: Progress | None) -> Ledger:
        return Ledger(self._identity, progress or Progress(low=0))

    # -- what runs elsewhere -------------------------------------------------------------------------------------------

    def _hear(self, partition: int, value: bytes | None) -> None:
        """Hands a record of the journal to its partition. Called in the log reader's thread."""
        if (work := self.owned.get(partition) or self._disowned.get(partition)) is not None:
            work.hear(value)

    def _miss(self, partition: int) -> None:
        """Notes that the journal of a partition was not heard from the last record on. Called in the log reader's thread.

        The owner of a partition has heard all that is deleted of its journal.
        """
        if (work := self._disowned.get(partition)) is not None:
            work.miss_journal()

    def look_at_leases(self) -> None:
        """Takes tasks back that other workers ran, and run no more, though they have not ended."""
        journal, now = self._journal, time.monotonic()
        if journal is not None:
            journal.writer.serve()
        if journal is None or now - self._looked_at_leases < _LEASES_POLL:
            return
        self._looked_at_leases = now
        if journal.writer.is_missing:
            journal.make(self.owned, anew=True)
            self._next_look_at_topic = 0.0  # it may have been deleted with its queue
        for work in list(self.owned.values()):
            if not journal.follows(work.partition):
                continue
            for offset, lease in work.leases_elsewhere():
                if journal.node.runs_no_more(lease.incarnation, (self._topic, work.partition, offset)):
                    work.reclaim(offset, lease)
        with self._lock:
            works = [*self.owned.values(), *self._disowned.values()]
            journal.leave([work.partition for work in works if not work.needs_journal()])

    def fetch_wanted(self) -> None:
        """Reads records again that wait in lanes, are needed soon, and are not in memory."""
        for work in list(self.owned.values()):
            for offset in work.wanted():
                work.found(offset, self._fetcher.fetch(work.partition, offset))

    # -- sharing -------------------------------------------------------------------------------------------------------

    def give(self, record: Record, work: OwnedPartition, term: int, incarnation: str) -> Grant | None:
        """Gives a task to another incarnation. Returns None if it cannot be given now."""
        if self._journal is None:
            return None
        with self._lock:
            try:
                self._journal.watch(work.partition)
            except KafkaExecError as error:
                logger.debug("nothing of %s is given away: %s", self._topic, error)
                return None
            return work.give(record, term, incarnation)

    def made_durable(self, grants: Sequence[Grant]) -> list[Grant]:
        """Waits until grants are durable, so that new owners know of them. Returns those that are, and stand."""
        partitions = {each.partition for each in grants}
        if self._journal is None or not self._journal.writer.flush(partitions, _GRANT_TIMEOUT):
            return []
        told = (work.durable(each) for each in grants if (work := self.owned.get(each.partition)) is not None)
        return [each for each in told if each is not None]

    def accept(self, grant: Grant, at: float) -> None:
        """Takes a task that another owner has granted at a log time (``at``), to run it here, in a thread of its own."""
        if (journal := self._journal) is not None:
            run_once("guest", lambda: self._accept(journal, grant, at))

    def _accept(self, journal: Journal, grant: Grant, at: float) -> None:
        try:
            record = self._fetcher.fetch(grant.partition, grant.offset)
            if grant.queue != self._identity and not self.owned:
                self._identify()
        except KafkaExecError as error:
            logger.debug("what was granted of %s is not read: %s", self._topic, error)
            return
        if record is None or grant.queue != self._identity:
            return
        deadline = time.monotonic() + journal.node.period
        while not (self._admits(journal, grant, record, at) or self._is_stopping() or time.monotonic() > deadline):
            native.sleep(0.002)

    def _admits(self, journal: Journal, grant: Grant, record: Record, at: float) -> bool:
        """Takes a granted task if it may. Returns False if the journal is not heard up to the grant yet."""
        with self._lock:
            if grant.partition in self.owned or grant.queue != self._identity:
                return True
            work = self._disowned.get(grant.partition)
            if work is None or work.queue != self._identity:
                work = self._disowned[grant.partition] = self._new_work(grant.partition, self._ledger(None))
                work.lose()
            if not journal.follows(grant.partition):
                work.miss_journal()
            try:
                journal.watch(grant.partition, grant.since + 1)
            except KafkaExecError as error:
                logger.debug("what was granted of %s is not accepted: %s", self._topic, error)
                return True
            if (journal.position(grant.partition) or 0) <= grant.since:
                return False
            if work.accept(grant, record, at):
                self._on_free(record, work)
            return True

    def patience(self, longest: float) -> float:
        """The time that the member's thread may poll now, seconds."""
        return longest if self._journal is None else self._journal.writer.patience(longest)

    def trim(self, retention: float) -> None:
        """Deletes, now and then, records that ended longer than ``retention`` seconds ago."""
        if self._trimmer is not None:
            self._trimmer.turn(self.owned, retention)

    # -- going ---------------------------------------------------------------------------------------------------------

    def give_away(self, consumer: Consumer, partitions: Iterable[int]) -> None:
        """Gives partitions to other members, after their journal and commits are written as far as possible."""
        numbers = list(partitions)
        works = [self.owned[each] for each in numbers if each in self.owned]
        for work in works:
            work.close_down()
        self._settle(works)
        commits.commit_now(consumer, works)
        self.lose(numbers)

    def _settle(self, works: list[OwnedPartition]) -> None:
        if self._journal is not None:
            if not self._journal.writer.flush([work.partition for work in works], _FLUSH_TIMEOUT):
                logger.warning(f"what runs in {self._topic} could not be told: the next owner may start it again")
            return
        deadline = time.monotonic() + _HANDOVER_GRACE
        while any(work.is_held for work in works) and time.monotonic() < deadline and not self._is_stopping():
            native.sleep(0.005)

    def close(self) -> None:
        """Notes that the member has left its group."""
        self.lose(list(self.owned))
        self._fetcher.close(_CLOSE_TIMEOUT)
        if self._journal is not None:
            self._journal.writer.retire()

    def lose(self, partitions: Iterable[int]) -> None:
        """Notes that other members own partitions now."""
        for number in partitions:
            if (work := self.owned.pop(number, None)) is not None:
                work.lose()
                self._disowned[number] = work
                if self._journal is not None:
                    self._journal.leave([number])
