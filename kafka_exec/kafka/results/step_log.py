"""The topic of what durable tasks have done so far, as one process writes and reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from confluent_kafka import Message as Record

from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.durable.history import Entry, read_entry
from kafka_exec.core.queue.transitions import object_of
from kafka_exec.errors import LostRecord, Undecodable
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import Fetcher, history
from kafka_exec.kafka.publish.partitioner import partition_of


class StepLog:
    """The records of all durable tasks. Thread-safe. Get it by :func:`step_log`; it connects when first used."""

    def __init__(self, cluster: Cluster, spec: TopicSpec) -> None:
        self._cluster = cluster
        self._spec = spec
        self._topic = spec.name
        self._fetcher = Fetcher(cluster, spec.name)
        cluster.on_close(self.close)

    def partition(self, task_id: str) -> int:
        """The partition with a task's records. The topic is made if it is missing."""
        self._cluster.topics.ensure(self._spec)
        return partition_of(task_id, self._cluster.topics.partitions(self._topic) or self._spec.partitions)

    def append(self, task_id: str, key: str, value: bytes) -> int:
        """Appends a record of a task, durably. Returns its offset.

        Raises:
            NotConfirmed, MessageTooLarge, ConnectionFailed: the record is not durable.
        """
        return self._cluster.publisher.append(self._topic, value, key=key, partition=self.partition(task_id))

    def erase(self, task_id: str, keys: Iterable[str]) -> None:
        """Writes tombstones for records of a task, without waiting: what is left over costs only room."""
        partition = self.partition(task_id)
        for key in keys:
            self._cluster.publisher.post(self._topic, None, key=key, partition=partition)

    def erase_all(self, task_ids: Collection[str]) -> None:
        """Writes tombstones for all records of some tasks, which are over.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        partitions = self._cluster.topics.partitions(self._topic, fresh=True) or 0
        for partition in range(partitions) if task_ids else ():
            for task_id, keys in native.call(self._keys_of, partition, task_ids).items():
                self.erase(task_id, keys)

    def _keys_of(self, partition: int, task_ids: Collection[str]) -> dict[str, set[str]]:
        found = defaultdict[str, set[str]](set)
        for batch in history(self._cluster, self._topic, partition, self._fetcher.end(partition)):
            for record in batch:
                key = (record.key() or b"").decode(errors="replace")
                task_id = str(object_of(record.value()).get("task"))
                if task_id in task_ids and key.startswith(f"{task_id}/"):
                    found[task_id].add(key)
        return found

    def fetch(self, partition: int, offset: int) -> Record:
        """The record at an offset.

        Raises:
            LostRecord: the record is there no more: its task has ended.
            ConnectionFailed: the cluster does not answer.
        """
        found: Record | None = native.call(self._fetcher.fetch, partition, offset)
        if found is None or found.value() is None:
            raise LostRecord(f"record {offset} of partition {partition} of {self._topic} is gone: its task has ended")
        return found

    def since(self, task_id: str, since: float) -> Iterator[Entry]:
        """The entries that runs of a task have written from a time on, epoch seconds, in the order of the log.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        found: list[Entry] = native.call(self._since, task_id, since)
        return iter(found)

    def _since(self, task_id: str, since: float) -> list[Entry]:
        partition = self.partition(task_id)
        begin = self._cluster.log.begin(self._topic, partition, since)
        own = f"{task_id}/".encode()
        entries = []
        for batch in history(self._cluster, self._topic, partition, self._fetcher.end(partition), begin):
            for record in batch:
                if (record.key() or b"").startswith(own) and record.value() is not None:
                    try:
                        found = read_entry(record.key().decode(), record.offset(), record.value())
                    except (Undecodable, UnicodeDecodeError) as error:
                        pass_over(record, error)
                        continue
                    if found is not None and found[0] == task_id:
                        entries.append(found[1])
        return entries

    def close(self, timeout: float) -> None:
        """Closes the consumer within ``timeout`` seconds."""
        self._fetcher.close(timeout)


def step_log(cluster: Cluster, spec: TopicSpec) -> StepLog:
    """The process's reader and writer of the topic."""
    key = f"steps of {spec.name}"
    found: StepLog | None = cluster.attachments.get(key)
    return found or cluster.attachments.setdefault(key, StepLog(cluster, spec))
