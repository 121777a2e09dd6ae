"""The states of all tasks, as one process sees them: pushed for those it watches, looked up for any other."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.results.lifecycle import Rank, strongest, task_id_of
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import ConnectionFailed, Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Fetcher, Spans, histories, history
from kafka_exec.kafka.log.tail import Tail
from kafka_exec.kafka.publish.partitioner import partition_of
from kafka_exec.kafka.results.state_index import StateIndex

logger = logging.getLogger("kafka_exec")

#: A record that was found may be compacted away before it is fetched; its successor is found then.
_ATTEMPTS = 5

Sink = Callable[[list[Record]], None]
OnProgress = Callable[[int, int], None]


class StateReader:
    """One user's view of the state records. Thread-safe. Get it by :func:`states`; it connects when first used.

    All views of a process share one source, but each has its own watched tasks: if one ceases to watch, others still do.
    """

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._watched: set[str] = set()
        self._sinks: tuple[Sink, ...] = ()

    def add_sink(self, sink: Sink) -> None:
        """Gives a sink all records of watched tasks, tombstones too, in batches, in the reader's thread.

        It must not block. A task's records come in their order.
        """
        if sink not in self._sinks:
            self._sinks = (*self._sinks, sink)
        self._source.add_view(self)

    def watch(self, task_ids: Iterable[str]) -> None:
        """Watches tasks. When this returns, no record of them that is written later is missed.

        Raises:
            ConnectionFailed: the cluster does not say where their partitions end.
        """
        ids = list(task_ids)
        self._watched.update(ids)
        self._source.follow(ids)

    def unwatch(self, task_ids: Iterable[str]) -> None:
        """Watches tasks no more. It takes no lock: it may be called by a garbage collection, at any point."""
        for each in task_ids:
            self._watched.discard(each)

    def take(self, records: Sequence[tuple[str | None, Record]]) -> None:
        """Hands the records of watched tasks to the sinks."""
        watched = [record for task_id, record in records if task_id in self._watched]
        for sink in self._sinks if watched else ():
            try:
                sink(watched)
            except Exception:
                logger.exception("state records were not understood")

    def find(self, task_id: str) -> StateRecord | None:
        """The state of a task by all records that were acknowledged before the call; None if there is none.

        Raises:
            ConnectionFailed: the cluster does not answer.
            Undecodable: the task's record is none of ours.
        """
        return self._source.find(task_id)

    def scan(
        self,
        on_progress: OnProgress | None = None,
        since: float | None = None,
        glance: Callable[[bytes], bool] = lambda value: True,
    ) -> Iterator[StateRecord]:
        """The states of all tasks, in no order, in bounded memory. This blocks in the calling thread.

        All partitions are read twice: to find the strongest record of each task, and to yield these. A task that changes
        meanwhile may be left out if Kafka compacts its partition at that moment.

        Args:
            on_progress: called with the number of offsets read so far, and the number of all to read.
            since: only tasks of which a record was written since then, epoch seconds.
            glance: called with a record's value before it is decoded; False: the task is left out.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        return self._source.scan(on_progress, since, glance)


class _Source:
    """The process's reader of the state records.

    A partition is followed from its present end on when a task of it is first watched or looked for. All partitions are
    when tasks of a second one are watched. A partition is read from its beginning once: when a task is looked for that has
    not ended since it is followed.
    """

    def __init__(self, cluster: Cluster, spec: TopicSpec) -> None:
        self._cluster = cluster
        self._spec = spec
        self._topic = spec.name
        self._partitions = 0
        self._views: tuple[StateReader, ...] = ()
        self._lock = native.lock()
        self._reading = native.lock()
        self._complete: set[int] = set()
        self._made_index: StateIndex | None = None
        self._made_tail: Tail | None = None
        self._fetcher = Fetcher(cluster, spec.name)
        cluster.on_close(self.close)

    # Watching

    def add_view(self, view: StateReader) -> None:
        with self._lock:
            if view not in self._views:
                self._views = (*self._views, view)

    def follow(self, ids: Sequence[str]) -> None:
        if not self._partitions:
            self._cluster.topics.ensure(self._spec)
            self._look_for_topic()
        wanted = {partition_of(each, self._partitions) for each in ids}
        if not wanted <= self._tail.starts.keys() and self._tail.starts:
            # Following one more partition takes until the fetch under way has ended, and a process that watches a second
            # task soon watches tasks of all partitions: so it waits once, not for each.
            wanted = set(range(self._partitions))
        self._tail.follow(wanted)

    def _take(self, records: list[Record]) -> None:
        of_tasks = [(_task_id(record), record) for record in records]
        for view in self._views:
            view.take(of_tasks)
        for partition, some in _by_partition(records).items():
            self._index.note(partition, some)

    # Looking up

    def find(self, task_id: str) -> StateRecord | None:
        if not self._look_for_topic():
            return None
        partition = partition_of(task_id, self._partitions)
        self._tail.follow([partition])
        found: StateRecord | None = native.call(self._find, task_id, partition)
        return found

    def _find(self, task_id: str, partition: int) -> StateRecord | None:
        for _ in range(_ATTEMPTS):
            self._tail.wait(partition, self._fetcher.end(partition))
            offsets = self._index.offsets(partition, task_id)
            if Rank.DONE not in offsets and partition not in self._complete:
                self._read_history(partition)
                offsets = self._index.offsets(partition, task_id)
            offset = strongest(offsets)
            if offset is None:
                return None
            record = self._fetcher.fetch(partition, offset)
            if record is not None:
                return StateRecord.decode(record.value())
        raise ConnectionFailed(f"{self._topic} changes faster than it can be read")

    def _read_history(self, partition: int) -> None:
        with self._reading:
            if partition in self._complete:
                return
            for batch in history(self._cluster, self._topic, partition, self._tail.starts[partition]):
                self._index.note(partition, batch)
            self._index.complete(partition)
            self._complete.add(partition)

    def scan(
        self, on_progress: OnProgress | None, since: float | None, glance: Callable[[bytes], bool]
    ) -> Iterator[StateRecord]:
        places = range(self._look_for_topic())
        log = self._cluster.log
        spans = {
            (self._topic, partition): (
                0 if since is None else log.begin(self._topic, partition, since),
                self._fetcher.end(partition),
            )
            for partition in places
        }
        index = StateIndex()
        try:
            for partition in places:
                index.complete(partition)
            for found in self._read(spans, 0, on_progress):
                for partition, records in found.items():
                    index.note(partition, records)
            left = {partition: index.strongest(partition, len(places)) for partition in places}
            wanted = {partition: next(offsets, None) for partition, offsets in left.items()}
            for found in self._read(spans, 1, on_progress):
                for partition, records in found.items():
                    for record in records:
                        while (offset := wanted[partition]) is not None and offset < record.offset():
                            wanted[partition] = next(left[partition], None)
                        is_wanted = offset == record.offset() and glance(record.value())
                        if is_wanted and (decoded := _decoded(record)) is not None:
                            yield decoded
        finally:
            index.close()

    def _read(
        self, spans: Spans, number: int, on_progress: OnProgress | None
    ) -> Iterator[Mapping[int, Sequence[Record]]]:
        """The records of all partitions, for the first (``number`` 0) or the second time of two, in batches."""
        size = sum(max(0, end - begin) for begin, end in spans.values())
        reached: dict[int, int] = {}
        for batch in histories(self._cluster, spans):
            found = _by_partition(batch)
            yield found
            if on_progress is not None:
                for partition, records in found.items():
                    reached[partition] = records[-1].offset() + 1 - spans[self._topic, partition][0]
                on_progress(number * size + sum(reached.values()), 2 * size)

    # Parts

    def _look_for_topic(self) -> int:
        """The number of partitions; 0 as long as there is no such topic."""
        if not self._partitions:
            self._partitions = self._cluster.topics.partitions(self._topic, fresh=True) or 0
        return self._partitions

    @property
    def _index(self) -> StateIndex:
        with self._lock:
            if self._made_index is None:
                self._made_index = StateIndex()
            return self._made_index

    @property
    def _tail(self) -> Tail:
        with self._lock:
            if self._made_tail is None:
                self._made_tail = Tail(self._cluster, self._topic, self._take)
            return self._made_tail

    def close(self, timeout: float) -> None:
        """Ends the thread and the consumers within ``timeout`` seconds."""
        if self._made_tail is not None:
            self._made_tail.close(timeout)
        self._fetcher.close(timeout)


def _by_partition(records: Iterable[Record]) -> Mapping[int, Sequence[Record]]:
    found = defaultdict[int, list[Record]](list)
    for record in records:
        found[record.partition()].append(record)
    return found


def _task_id(record: Record) -> str | None:
    try:
        return task_id_of(record.key().decode())
    except (AttributeError, UnicodeDecodeError):
        return None


def _decoded(record: Record) -> StateRecord | None:
    try:
        return StateRecord.decode(record.value())
    except Undecodable as error:
        logger.debug("offset %s of %s: %s", record.offset(), record.topic(), error)
        return None


def states(cluster: Cluster, spec: TopicSpec) -> StateReader:
    """A new view of the states in a topic."""
    key = f"states of {spec.name}"
    source: _Source | None = cluster.attachments.get(key)
    return StateReader(source or cluster.attachments.setdefault(key, _Source(cluster, spec)))
