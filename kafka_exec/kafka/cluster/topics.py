"""Making, checking, measuring, emptying and deleting topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.core.cluster.topology import TopicSpec, differences
from kafka_exec.errors import ConnectionFailed, NoSuchQueue, TopicMismatch
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.client.failures import failure, persist, time_left, within
from kafka_exec.kafka.cluster.admin import LEADERS_TIMEOUT, TIMEOUT, Admin, administration

#: A topic that was not there is looked for again after this time, seconds.
_MISSING_FOR = 5.0


class Backlog(NamedTuple):
    """The number of messages that wait in a queue's topics, and of the consumers of its groups."""

    messages: int
    consumers: int


class TopicKeeper:
    """The topics of one cluster, as one process knows them. Thread-safe.

    Args:
        clients: of the cluster.
        metadata: asks the cluster for the metadata of a topic, or of all, within so many seconds.
    """

    def __init__(self, clients: Clients, metadata: Callable[[str | None, float], Any]) -> None:
        self._clients = clients
        self._ask = metadata
        clients.on_refused_topic(self.forget)
        self._partitions: dict[str, int] = {}
        self._missing: dict[str, float] = {}
        self._creating = native.lock()

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
        return persist(
            lambda timeout: self._ask(topic, timeout),
            f"looking for topic {topic}" if topic else "listing topics",
            TIMEOUT,
        )

    def counts(self) -> dict[str, int]:
        """All topics that this user may see, each with the number of its partitions; one request for all.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        return {name: len(found.partitions) for name, found in self._metadata(None).topics.items()}

    def _look_up(self, topic: str) -> int | None:
        def ask(timeout: float) -> int | None:
            described = self._ask(topic, timeout).topics[topic]
            if described.error is None or described.partitions:
                return len(described.partitions)
            if failure(described.error) is Failure.MISSING:
                return None
            raise KafkaException(described.error)

        return persist(ask, f"looking for topic {topic}", TIMEOUT)

    def identity(self, topic: str) -> str:
        """The id by which a topic differs from every other one, also of the same name: before it, or in another cluster.

        Raises:
            ChannelFailed: there is no such topic.
        """
        return native.call(self._identify, topic)

    def _identify(self, topic: str) -> str:
        if (found := self.identities([topic]).get(topic)) is None:
            raise NoSuchQueue(f"topic {topic} does not exist")
        return found

    def identities(self, topics: Sequence[str]) -> dict[str, str]:
        """The ids, as of :meth:`identity`, of those of some topics that exist."""
        with administration(self._clients) as admin:
            return self._ids(admin, topics)

    def _ids(self, admin: Admin, topics: Sequence[str]) -> dict[str, str]:
        """The ids of those of some topics that exist."""
        described = admin.ask(
            lambda client, timeout: client.describe_topics(TopicCollection(list(topics)), request_timeout=timeout),
            f"looking for topic {', '.join(topics)}",
            {KafkaError.UNKNOWN_TOPIC_OR_PART},
        )
        return {topic: str(found.topic_id) for topic, found in described.items() if found is not None}

    def is_known(self, topic: str) -> bool:
        """True if the topic was seen and not found missing since; makes no request."""
        return topic in self._partitions

    def forget(self, topic: str) -> None:
        """Forgets a topic that has not taken a message: before the next one it is looked for, and made if need be."""
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
            else:
                _check_number(spec, found)
        if missing:
            native.call(self._create, missing)
            for spec in missing:  # another process may have made it a moment before
                _check_number(spec, self._partitions.get(spec.name, spec.partitions))

    def _create(self, specs: Sequence[TopicSpec]) -> None:
        """Makes topics, one thread at a time: Kafka would not answer hundreds that all need the same one in time."""
        what = f"creating topic {', '.join(spec.name for spec in specs)}"
        with within(TIMEOUT):
            if not self._creating.acquire(timeout=time_left(TIMEOUT)):
                raise ConnectionFailed(f"{what}: another thread creates topics, and the cluster does not answer")
            try:
                if missing := [spec for spec in specs if not self.is_known(spec.name)]:
                    self._create_now(missing, what)
            finally:
                self._creating.release()

    def _create_now(self, specs: Sequence[TopicSpec], what: str) -> None:
        with administration(self._clients) as admin:
            admin.ask(
                lambda client, timeout: client.create_topics(
                    self._new(specs, timeout), operation_timeout=timeout, request_timeout=timeout
                ),
                what,
                {KafkaError.TOPIC_ALREADY_EXISTS},
            )
            for spec in specs:
                self._await(spec.name, admin)

    def _new(self, specs: Sequence[TopicSpec], timeout: float) -> list[NewTopic]:
        brokers = len(self._ask(specs[0].name, timeout).brokers)
        if not brokers:
            raise KafkaException(KafkaError(KafkaError.BROKER_NOT_AVAILABLE))
        replication = self._clients.settings.replication or min(3, brokers)
        in_sync = {"min.insync.replicas": str(max(1, replication - 1))}
        return [NewTopic(spec.name, spec.partitions, replication, config={**spec.config, **in_sync}) for spec in specs]

    def _await(self, topic: str, admin: Admin) -> None:
        while True:
            described = self._metadata(topic).topics[topic]
            if described.partitions and all(p.leader >= 0 for p in described.partitions.values()):
                # Metadata is ahead of the leaders: asked for offsets, they answer when they know that they lead.
                admin.offsets([TopicPartition(topic, n) for n in described.partitions], OffsetSpec.latest())
                self._partitions[topic] = len(described.partitions)
                self._missing.pop(topic, None)
                return
            if not time_left(TIMEOUT):
                raise ConnectionFailed(f"topic {topic} has no leader")
            native.sleep(0.02)

    def grow(self, topic: str, partitions: int) -> None:
        """Adds partitions to a topic until there are so many.

        Raises:
            Forbidden: this user may not do that.
        """
        if (self.partitions(topic) or 0) < partitions and (self.partitions(topic, fresh=True) or 0) < partitions:
            native.call(self._grow, topic, partitions)

    def _grow(self, topic: str, partitions: int) -> None:
        with within(TIMEOUT), administration(self._clients) as admin:
            # Another worker may have been quicker.
            admin.ask(
                lambda client, timeout: client.create_partitions(
                    [NewPartitions(topic, partitions)], operation_timeout=timeout, request_timeout=timeout
                ),
                f"adding partitions to {topic}",
                {KafkaError.INVALID_PARTITIONS},
            )
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
        with administration(self._clients) as admin:
            return admin.ask(
                lambda client, timeout: client.describe_configs([resource], request_timeout=timeout),
                f"reading the settings of {topic}",
            )[resource]

    def _members(self, topic: str) -> list[TopicPartition]:
        found = self.partitions(topic, fresh=True)
        if found is None:
            raise NoSuchQueue(f"topic {topic} does not exist: declare the queue first")
        return [TopicPartition(topic, number) for number in range(found)]

    def backlog(self, topics: Sequence[str]) -> Backlog:
        """The messages and consumers of topics that each have a consumer group of the same name.

        Raises:
            NoSuchQueue: the first topic does not exist.
        """
        return native.call(self._backlog, topics)

    def _backlog(self, topics: Sequence[str]) -> Backlog:
        messages = consumers = 0
        with within(LEADERS_TIMEOUT), administration(self._clients) as admin:
            for topic in topics:
                partitions = self._members(topic)
                ends = admin.offsets(partitions, OffsetSpec.latest())
                starts = admin.offsets(partitions, OffsetSpec.earliest())
                done = admin.committed(topic, partitions)
                messages += sum(max(0, end - max(starts[key], done.get(key, 0))) for key, end in ends.items())
                consumers = max(consumers, admin.members(topic))
        return Backlog(messages, consumers)

    def purge(self, topics: Sequence[str]) -> int:
        """Deletes all messages that wait in the topics. Returns their number."""
        return native.call(self._purge, topics)

    def _purge(self, topics: Sequence[str]) -> int:
        waiting = self._backlog(topics).messages
        with administration(self._clients) as admin:
            for topic in topics:
                ends = admin.offsets(self._members(topic), OffsetSpec.latest())
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
        with administration(self._clients) as admin:
            starts = admin.offsets(partitions, OffsetSpec.earliest())
            young = admin.offsets(partitions, OffsetSpec.for_timestamp(int(before * 1000)))
            doomed = []
            for (name, number), start in starts.items():
                first_young = young.get((name, number), -1)
                end = marks[number] if first_young < 0 else min(marks[number], first_young)
                if end > start:
                    doomed.append(TopicPartition(name, number, end))
            _delete(admin, doomed, f"trimming {topic}")

    def truncate(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Deletes all records of some partitions before an offset of each."""
        with administration(self._clients) as admin:
            native.call(self._truncate, admin, topic, offsets)

    def _truncate(self, admin: Admin, topic: str, offsets: Mapping[int, int]) -> None:
        doomed = [TopicPartition(topic, number, end) for number, end in offsets.items() if end > 0]
        _delete(admin, doomed, f"purging {topic}")

    def delete(self, topics: Sequence[str]) -> None:
        """Deletes topics and the consumer groups of the same names; those that do not exist are passed over.

        When it returns, no broker takes a message for them, and who asks for them finds none.
        """
        native.call(self._delete, topics)

    def _delete(self, topics: Sequence[str]) -> None:
        with within(TIMEOUT), administration(self._clients) as admin:
            doomed = self._ids(admin, topics)
            admin.ask(
                lambda client, timeout: client.delete_topics(
                    list(topics), operation_timeout=timeout, request_timeout=timeout
                ),
                f"deleting topic {', '.join(topics)}",
                {KafkaError.UNKNOWN_TOPIC_OR_PART},
            )
            # A broker learns of it some milliseconds later. Until then it takes messages, which are lost with the topic, and
            # tells who declares the queue anew that it is there.
            while doomed.items() & self._ids(admin, topics).items():
                if not time_left(TIMEOUT):
                    raise ConnectionFailed(f"topic {', '.join(doomed)} is deleted, and a broker still has it")
                native.sleep(0.005)
            for topic in topics:
                self._partitions.pop(topic, None)
            # A member that is still there makes a group stay, without offsets of a topic that is gone.
            admin.ask_coordinator(
                lambda client, timeout: client.delete_consumer_groups(list(topics), request_timeout=timeout),
                f"deleting group {', '.join(topics)}",
                {KafkaError.GROUP_ID_NOT_FOUND, KafkaError.NON_EMPTY_GROUP},
            )


def _delete(admin: Admin, doomed: list[TopicPartition], what: str) -> None:
    if doomed:
        admin.ask(lambda client, timeout: client.delete_records(doomed, request_timeout=timeout), what)


def _check_number(spec: TopicSpec, partitions: int) -> None:
    if spec.exact and partitions != spec.partitions:
        raise TopicMismatch(f"topic {spec.name}: {'; '.join(differences(spec, partitions, {}))}")
