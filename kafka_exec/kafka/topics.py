"""Making, checking, measuring, emptying and deleting topics."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

from kafka_exec.core.topology import TopicSpec, differences
from kafka_exec.errors import ConnectionFailed, NoSuchQueue, TopicMismatch
from kafka_exec.kafka import native
from kafka_exec.kafka.client import NOT_YET_KNOWN, translate

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from kafka_exec.kafka.client import Cluster

#: How long one administrative request may take, seconds.
TIMEOUT = 10.0

#: A topic that was not there is looked for again after this time, seconds.
_MISSING_FOR = 5.0

_NO_GROUP = frozenset({KafkaError.GROUP_ID_NOT_FOUND})


class Backlog(NamedTuple):
    """What waits in a queue's topics, and how many consumers its groups have."""

    messages: int
    consumers: int


class TopicKeeper:
    """The topics of one cluster, as one process knows them. Thread-safe."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._partitions: dict[str, int] = {}
        self._missing: dict[str, float] = {}

    @contextmanager
    def _admin(self) -> Iterator[AdminClient]:
        """A client for one operation: it is rarely needed, and has threads and connections of its own."""
        admin = self._cluster.new_admin()
        try:
            yield admin
        finally:
            self._cluster.forget(admin)

    def partitions(self, topic: str, *, fresh: bool = False) -> int | None:
        """The number of partitions of a topic; None if there is no such topic."""
        if not fresh:
            if (known := self._partitions.get(topic)) is not None:
                return known
            if time.monotonic() < self._missing.get(topic, 0):
                return None
        found = native.call(self._look_up, topic)
        if found is None:
            self._partitions.pop(topic, None)
            self._missing[topic] = time.monotonic() + _MISSING_FOR
        else:
            self._partitions[topic] = found
        return found

    def _metadata(self, topic: str | None) -> Any:
        try:
            return self._cluster.publisher.metadata(topic, TIMEOUT)
        except KafkaException as error:
            raise translate(error, f"looking for topic {topic}" if topic else "listing topics") from None

    def names(self) -> list[str]:
        """All topics that this user may see."""
        return list(self._metadata(None).topics)

    def _look_up(self, topic: str) -> int | None:
        described = self._metadata(topic).topics[topic]
        if described.error is None:
            return len(described.partitions)
        if described.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return None
        if described.error.code() == KafkaError.LEADER_NOT_AVAILABLE:
            return len(described.partitions) or None
        raise translate(described.error, f"looking for topic {topic}")

    def identity(self, topic: str) -> str:
        """What tells a topic from every other one, also of the same name: before it, or in another cluster.

        Raises:
            ChannelFailed: there is no such topic.
        """
        return native.call(self._identify, topic)

    def _identify(self, topic: str) -> str:
        with self._admin() as admin:
            asked = admin.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT)
            return str(self._result(asked[topic], f"looking for topic {topic}").topic_id)

    def is_known(self, topic: str) -> bool:
        """Whether the topic was seen and not found missing since; asks nobody."""
        return topic in self._partitions

    def forget(self, topic: str) -> None:
        """Forgets a topic to which a message could not be sent: it is looked for, and if need be made, before the next."""
        self._partitions.pop(topic, None)

    def ensure(self, *specs: TopicSpec) -> None:
        """Makes the topics that do not exist, and waits until they can be used.

        Raises:
            TopicMismatch: one exists with another number of partitions than was asked for.
            Forbidden: this user may not create topics.
        """
        missing = []
        for spec in specs:
            found = self.partitions(spec.name)
            if found is None:
                missing.append(spec)
            elif spec.exact and found != spec.partitions:
                raise TopicMismatch(f"topic {spec.name}: {'; '.join(differences(spec, found, {}))}")
        if missing:
            native.call(self._create, missing)

    def _create(self, specs: Sequence[TopicSpec]) -> None:
        wanted = self._cluster.settings.replication
        brokers = len(self._metadata(specs[0].name).brokers)
        replication = wanted or min(3, brokers)
        new = [
            NewTopic(
                spec.name,
                spec.partitions,
                replication,
                config={**spec.config, "min.insync.replicas": str(max(1, replication - 1))},
            )
            for spec in specs
        ]
        with self._admin() as admin:
            for name, future in admin.create_topics(new, operation_timeout=TIMEOUT).items():
                self._result(future, f"creating topic {name}", passing_over={KafkaError.TOPIC_ALREADY_EXISTS})
            for spec in specs:
                self._await(spec.name, admin)

    def _await(self, topic: str, admin: AdminClient) -> None:
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            described = self._metadata(topic).topics[topic]
            if described.partitions and all(p.leader >= 0 for p in described.partitions.values()):
                # Metadata is ahead of the leaders: asked for offsets, they answer when they know that they lead.
                self._offsets(admin, [TopicPartition(topic, n) for n in described.partitions], OffsetSpec.latest())
                self._partitions[topic] = len(described.partitions)
                self._missing.pop(topic, None)
                return
            native.sleep(0.02)
        raise ConnectionFailed(f"topic {topic} has no leader after {TIMEOUT:.0f} s")

    def grow(self, topic: str, partitions: int) -> None:
        """Adds partitions to a topic until there are so many.

        Raises:
            Forbidden: this user may not do that.
        """
        if (self.partitions(topic) or 0) < partitions and (self.partitions(topic, fresh=True) or 0) < partitions:
            native.call(self._grow, topic, partitions)

    def _grow(self, topic: str, partitions: int) -> None:
        with self._admin() as admin:
            asked = admin.create_partitions([NewPartitions(topic, partitions)], operation_timeout=TIMEOUT)
            # Another worker may have been quicker.
            self._result(asked[topic], f"adding partitions to {topic}", passing_over={KafkaError.INVALID_PARTITIONS})
            self._await(topic, admin)

    def check(self, spec: TopicSpec) -> None:
        """Compares an existing topic's settings with what they should be.

        Raises:
            TopicMismatch: says what differs, and the remedy.
        """
        found = native.call(self._describe, spec.name)
        config = {name: entry.value for name, entry in found.items() if entry.value is not None}
        if wrong := differences(spec, self.partitions(spec.name) or 0, config):
            raise TopicMismatch(f"topic {spec.name}: {'; '.join(wrong)}")

    def _describe(self, topic: str) -> Any:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        with self._admin() as admin:
            return self._result(admin.describe_configs([resource])[resource], f"reading the settings of {topic}")

    def _result(self, future: Any, what: str, passing_over: Collection[int] = ()) -> Any:
        # Not future.result(TIMEOUT): under eventlet its condition is a green one, which another thread cannot notify.
        done = native.lock()
        done.acquire()
        future.add_done_callback(lambda _: done.release())
        done.acquire(timeout=TIMEOUT)
        if not future.done():
            raise ConnectionFailed(f"{what}: no answer within {TIMEOUT:.0f} s")
        error = future.exception()
        if error is None:
            return future.result()
        if error.args[0].code() in passing_over:
            return None
        raise translate(error, what)

    def _offsets(
        self, admin: AdminClient, partitions: Iterable[TopicPartition], spec: OffsetSpec
    ) -> dict[tuple[str, int], int]:
        wanted = list(partitions)
        found: dict[tuple[str, int], int] = {}
        deadline = time.monotonic() + TIMEOUT
        while True:
            for partition, future in admin.list_offsets(dict.fromkeys(wanted, spec)).items():
                answer = self._result(future, "reading offsets", passing_over=NOT_YET_KNOWN)
                if answer is not None:
                    found[partition.topic, partition.partition] = answer.offset
            wanted = [partition for partition in wanted if (partition.topic, partition.partition) not in found]
            if not wanted:
                return found
            if time.monotonic() > deadline:
                raise ConnectionFailed(f"topic {wanted[0].topic} has no leader after {TIMEOUT:.0f} s")
            native.sleep(0.02)

    def _members(self, topic: str) -> list[TopicPartition]:
        found = self.partitions(topic, fresh=True)
        if found is None:
            raise NoSuchQueue(f"topic {topic} does not exist: declare the queue first")
        return [TopicPartition(topic, number) for number in range(found)]

    def backlog(self, topics: Sequence[str]) -> Backlog:
        """What waits in topics that each have a consumer group of the same name.

        Raises:
            NoSuchQueue: the first topic does not exist.
        """
        return native.call(self._backlog, topics)

    def _backlog(self, topics: Sequence[str]) -> Backlog:
        messages = consumers = 0
        with self._admin() as admin:
            for topic in topics:
                partitions = self._members(topic)
                ends = self._offsets(admin, partitions, OffsetSpec.latest())
                starts = self._offsets(admin, partitions, OffsetSpec.earliest())
                committed = self._committed(admin, topic, partitions)
                messages += sum(max(0, end - max(starts[key], committed.get(key, 0))) for key, end in ends.items())
                consumers = max(consumers, self._consumers(admin, topic))
        return Backlog(messages, consumers)

    def _committed(
        self, admin: AdminClient, group: str, partitions: list[TopicPartition]
    ) -> dict[tuple[str, int], int]:
        future = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, partitions)])[group]
        answer = self._result(future, f"reading group {group}", passing_over=_NO_GROUP)
        found = answer.topic_partitions if answer is not None else []
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def _consumers(self, admin: AdminClient, group: str) -> int:
        future = admin.describe_consumer_groups([group])[group]
        described = self._result(future, f"reading group {group}", passing_over=_NO_GROUP)
        return len(described.members) if described is not None else 0

    def purge(self, topics: Sequence[str]) -> int:
        """Deletes all that waits in the topics; how much that was."""
        return native.call(self._purge, topics)

    def _purge(self, topics: Sequence[str]) -> int:
        waiting = self._backlog(topics).messages
        with self._admin() as admin:
            for topic in topics:
                ends = self._offsets(admin, self._members(topic), OffsetSpec.latest())
                self._truncate(admin, topic, {number: end for (_, number), end in ends.items()})
        return waiting

    def trim(self, topic: str, marks: Mapping[int, int], before: float) -> None:
        """Deletes the records of some partitions below these offsets, as far as they are older than a time.

        Args:
            before: epoch seconds.

        Raises:
            KafkaExecError: the cluster does not do it.
        """
        native.call(self._trim, topic, marks, before)

    def _trim(self, topic: str, marks: Mapping[int, int], before: float) -> None:
        partitions = [TopicPartition(topic, number) for number in marks]
        with self._admin() as admin:
            starts = self._offsets(admin, partitions, OffsetSpec.earliest())
            young = self._offsets(admin, partitions, OffsetSpec.for_timestamp(int(before * 1000)))
            doomed = []
            for (name, number), start in starts.items():
                first_young = young.get((name, number), -1)
                end = marks[number] if first_young < 0 else min(marks[number], first_young)
                if end > start:
                    doomed.append(TopicPartition(name, number, end))
            for future in admin.delete_records(doomed).values() if doomed else ():
                self._result(future, f"trimming {topic}")

    def truncate(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Deletes all records of some partitions before an offset of each."""
        with self._admin() as admin:
            native.call(self._truncate, admin, topic, offsets)

    def _truncate(self, admin: AdminClient, topic: str, offsets: Mapping[int, int]) -> None:
        doomed = [TopicPartition(topic, number, end) for number, end in offsets.items() if end > 0]
        for future in admin.delete_records(doomed).values() if doomed else ():
            self._result(future, f"purging {topic}")

    def delete(self, topics: Sequence[str]) -> None:
        """Deletes topics and the consumer groups of the same names; those that do not exist are passed over."""
        native.call(self._delete, topics)

    def _delete(self, topics: Sequence[str]) -> None:
        with self._admin() as admin:
            for topic, future in admin.delete_topics(list(topics), operation_timeout=TIMEOUT).items():
                self._result(future, f"deleting topic {topic}", passing_over={KafkaError.UNKNOWN_TOPIC_OR_PART})
                self._partitions.pop(topic, None)
            for group, future in admin.delete_consumer_groups(list(topics)).items():
                # A member that is still there makes it stay, without offsets of a topic that is gone.
                self._result(future, f"deleting group {group}", passing_over={*_NO_GROUP, KafkaError.NON_EMPTY_GROUP})
