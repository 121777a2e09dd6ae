"""The state that all connections of a process to one cluster and prefix share: bindings, subscriptions, declarations."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from kafka_exec.core.cluster.arguments import check_arguments
from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import (
    TopicSpec,
    bindings_topic,
    dead_topic,
    delay_topic,
    exchange_topic,
    journal_topic,
    nodes_topic,
    queue_topic,
    revoked_topic,
)
from kafka_exec.core.control.delay import level_for
from kafka_exec.core.message.window import steps_for
from kafka_exec.errors import ChannelFailed, Forbidden, NoSuchQueue
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.transport.bindings import Bindings
from kafka_exec.transport.subscriptions import Subscription

logger = logging.getLogger("kafka_exec")


class QueueDeclaration:
    """A queue's declaration, read from its arguments; times are seconds."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.arguments = dict(arguments)
        self.ttl = _seconds(arguments.get("x-message-ttl"))
        self.expires = _seconds(arguments.get("x-expires"))
        self.max_priority: int | None = arguments.get("x-max-priority")
        self.partitions: int | None = arguments.get("x-partitions")

    @property
    def steps(self) -> int:
        """The number of priority steps, each a topic."""
        return steps_for(self.max_priority)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


class Namespace:
    """The topics, queues and bindings of one prefix on a cluster. :func:`namespace` returns the process's own."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self.cluster = cluster
        self.settings = cluster.settings
        self.topics = Topics(prefix, self.settings.topics)
        self.bindings = Bindings(cluster, self.topics)
        self.subscriptions: dict[str, Subscription] = {}
        self._queues: dict[str, QueueDeclaration] = {}

    def make_worker_topics(self, queues: Iterable[str], exchanges: Iterable[str]) -> None:
        """Makes in one request the topics that a worker needs before it is ready; one by one they take a second.

        A topic that is refused here is refused again to its user, who says so.

        Args:
            queues: work queues that are declared without arguments.

        Raises:
            ConnectionFailed: the cluster does not answer.
        """
        with suppress(Forbidden, ChannelFailed):
            self.cluster.topics.ensure(
                bindings_topic(self.topics),
                nodes_topic(self.topics),
                revoked_topic(self.settings, self.topics),
                *(queue_topic(self.settings, self.topics, name) for name in queues),
                *(exchange_topic(self.settings, self.topics, name) for name in exchanges),
            )

    def declare_queue(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Makes a work queue's topics.

        Raises:
            ConfigurationError: an argument is wrong, or asks for something that a queue on Kafka does not do.
            TopicMismatch: a topic has another number of partitions than ``x-partitions`` says.
        """
        known = self._queues.get(name)
        if known is not None and arguments in ({}, known.arguments):
            return
        check_arguments(name, arguments)
        declared = QueueDeclaration(arguments)
        if declared.expires is not None:
            self.sweep()
        self._queues[name] = declared
        self._ensure_queue(name)
        self.use_queue(name)

    def _ensure_queue(self, name: str) -> None:
        declared = self.declaration(name)
        self.cluster.topics.ensure(
            *(
                queue_topic(self.settings, self.topics, name, step, declared.partitions)
                for step in range(declared.steps)
            )
        )

    def queue_to_publish(self, name: str, step: int) -> str:
        """The topic of a step of a work queue. It is made again if it was deleted."""
        topic = self.topics.queue(name, step)
        if not self.cluster.topics.is_known(topic):
            self._ensure_queue(name)
        return topic

    def keys_over(self, queue: str) -> int:
        """The number of partitions over which a work queue's ordering keys are spread.

        That is the number that the queue had when its first key came. If partitions are added later, a key's tasks still are
        in one partition.
        """
        topic = self.queue_to_publish(queue, 0)
        kept, found = self.bindings.keys_over(queue), self.cluster.topics.partitions(topic) or 0
        if (
            kept is not None and kept > found
        ):  # the queue was deleted and made anew, or has more than this process knows
            found = self.cluster.topics.partitions(topic, fresh=True) or 0
        if kept is None or kept > found:
            kept = found
            self.bindings.keep_keys_over(queue, found)
        return kept

    def delay_to_publish(self, wait: float) -> tuple[str, int] | None:
        """The topic and the partition where a message waits for ``wait`` seconds; None: that is too short to wait there."""
        if level_for(wait, 1) is None:
            return None
        topic = self.topics.delay
        if not self.cluster.topics.is_known(topic):
            self.cluster.topics.ensure(delay_topic(self.settings, self.topics))
        level = level_for(wait, self.cluster.topics.partitions(topic) or 0)
        return None if level is None else (topic, level)

    def use_queue(self, name: str) -> None:
        """Notes that a work queue is in use, if it is one that expires without use."""
        if (expires := self.declaration(name).expires) is not None:
            self.bindings.use_queue(name, expires, time.time())

    def sweep(self) -> None:
        """Deletes the work queues that have expired. A queue that has consumers is in use, even if no use was noted."""
        for name in self.bindings.expired_queues(time.time()):
            topics = self.queue_topics(name)
            with suppress(NoSuchQueue):
                if self.cluster.topics.backlog(topics).consumers:
                    continue
            self.delete_queue(name)

    def delete_queue(self, name: str) -> None:
        """Deletes a work queue, its messages, its journal and its bindings."""
        journals = [self.topics.journal(name, step) for step in range(self.declaration(name).steps)]
        self.cluster.topics.delete([*self.queue_topics(name), *journals])
        self.bindings.delete_queue(name)
        self._queues.pop(name, None)

    def check_queue(self, name: str) -> None:
        """Makes sure that Kafka deletes no record of a work queue by time or size.

        Raises:
            TopicMismatch: a topic of the queue has other settings than it needs.
        """
        declared = self.declaration(name)
        for step in range(declared.steps):
            try:
                self.cluster.topics.check(queue_topic(self.settings, self.topics, name, step, declared.partitions))
            except Forbidden as error:
                logger.warning("the settings of queue %s could not be checked: %s", name, error)

    def declaration(self, name: str) -> QueueDeclaration:
        """The declaration of a work queue by this process; one without arguments if another process has declared it."""
        return self._queues.get(name) or QueueDeclaration({})

    def is_work_queue(self, name: str) -> bool:
        """True if a queue has a topic of its own."""
        if name in self._queues:
            return True
        if self.subscription(name) is not None:
            return False
        return self.cluster.topics.partitions(self.topics.queue(name)) is not None

    def queue_topics(self, name: str) -> list[str]:
        """The topics of a work queue, one for each priority step, the lowest first."""
        return [self.topics.queue(name, step) for step in range(self.declaration(name).steps)]

    def journal(self, name: str, step: int) -> TopicSpec:
        """The journal of a work queue's topic."""
        topic = self.topics.queue(name, step)
        spec = queue_topic(self.settings, self.topics, name, step, self.declaration(name).partitions)
        return journal_topic(self.topics, name, step, self.cluster.topics.partitions(topic) or spec.partitions)

    def exchange_log(self, exchange: str) -> str:
        """The name of an exchange's log. The topic is made if it does not exist."""
        spec = exchange_topic(self.settings, self.topics, exchange)
        self.cluster.topics.ensure(spec)
        return spec.name

    def dead_letters(self, queue: str) -> str:
        """The name of a queue's dead-letter topic. The topic is made if it does not exist."""
        spec = dead_topic(self.settings, self.topics, queue, self.declaration(queue).partitions)
        self.cluster.topics.ensure(spec)
        return spec.name

    def subscribe(self, name: str, arguments: Mapping[str, Any], *, auto_delete: bool) -> Subscription:
        """Declares a subscription; one of the same name is used again.

        Raises:
            ConfigurationError: an argument is wrong, or asks for something that a queue on Kafka does not do.
        """
        found = self.subscription(name)
        if found is None:
            check_arguments(name, arguments)
            declared = QueueDeclaration(arguments)
            found = Subscription(
                name,
                self.cluster,
                self.settings,
                self.topics,
                auto_delete=auto_delete,
                expires=declared.expires,
                ttl=declared.ttl,
                max_priority=declared.max_priority,
            )
            found = self.subscriptions.setdefault(name, found)
        found.used = time.monotonic()
        return found

    def subscription(self, name: str) -> Subscription | None:
        """The subscription of this name, unless it has expired."""
        found = self.subscriptions.get(name)
        if found is not None and found.is_expired(time.monotonic()):
            self.unsubscribe(name)
            return None
        return found

    def unsubscribe(self, name: str) -> None:
        """Deletes a subscription."""
        if (found := self.subscriptions.pop(name, None)) is not None:
            found.close()


def namespace(cluster: Cluster, prefix: str) -> Namespace:
    """The process's one :class:`Namespace` of a prefix on a cluster."""
    spaces: dict[str, Namespace] = cluster.attachments
    return spaces.get(prefix) or spaces.setdefault(prefix, Namespace(cluster, prefix))
