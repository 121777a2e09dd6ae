"""A message's topic and partition, batches of messages, and the errors that an unreachable broker means to a publisher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from kombu import exceptions as kombu

from kafka_exec.core.control.delay import DelayHeaders, eta_of
from kafka_exec.core.message import window
from kafka_exec.core.message.envelope import ORDERING_KEY, Headers, Message, bind
from kafka_exec.errors import ConnectionFailed, KafkaExecError, NotConfirmed
from kafka_exec.kafka.publish import clock
from kafka_exec.kafka.publish.partitioner import partition_of
from kafka_exec.kafka.publish.scopes import confirmed
from kafka_exec.settings.once import warn_once
from kafka_exec.transport.namespace import Namespace

#: Kombu before 5.7 has no batches, and no name for their error.
BatchPublishError = getattr(kombu, "BatchPublishError", kombu.KombuError)


def has_failover(client: Any) -> bool:
    """True if a Kombu connection knows more than one broker URL."""
    return len(client.alt) > 1


@contextmanager
def in_time(client: Any) -> Iterator[None]:
    """Turns a missing acknowledgement into a connection error if Kombu has another broker URL to fail over to.

    Otherwise the error stays :class:`NotConfirmed`, which Kombu does not retry: librdkafka has retried for the whole time,
    and a second message could run the task twice.
    """
    try:
        yield
    except NotConfirmed as error:
        if has_failover(client):
            raise ConnectionFailed(str(error)) from error
        raise
    except ConnectionFailed as error:
        if has_failover(client):
            raise
        raise NotConfirmed(str(error)) from error


class Destination(NamedTuple):
    """The topic, headers and partition to publish a message with; without a partition its key decides."""

    topic: str
    headers: Headers
    partition: int | None = None


def place_in(space: Namespace, queue: str, message: Message, headers: Headers) -> Destination:
    """The place of a message for a work queue: in the queue's topic, or in the delay topic until its time comes."""
    # Tasks of one ordering key keep their order only if their priorities do not send them to different steps.
    priority, most = message.properties.get("priority"), space.declaration(queue).max_priority
    step = window.step_of(None if ORDERING_KEY in message.headers else priority, most)
    if priority:
        tell_of_priority(queue, most, has_key=ORDERING_KEY in message.headers)
    partition = None
    if message.is_bound:
        over = space.keys_over(queue)
        headers, partition = bind(headers, over), partition_of(message.key, over)
    eta = eta_of(message)
    delayed = None if eta is None else space.delay_to_publish(eta - clock.now())
    if eta is None or delayed is None:
        return Destination(space.queue_to_publish(queue, step), headers, partition)
    return Destination(delayed[0], DelayHeaders(queue, step, eta).write(headers), delayed[1])


def tell_of_priority(queue: str, most: int | None, *, has_key: bool) -> None:
    """Warns of a priority that changes nothing, once for each queue."""
    if not most:
        warn_once(
            f"priorities of messages for queue {queue} change nothing: give it steps by x-max-priority (or "
            "task_queue_max_priority), wherever it is declared"
        )
    elif has_key:
        warn_once(
            f"priorities of messages for queue {queue} that have an ordering key change nothing: a key's tasks run in the "
            "order in which they were sent"
        )


class Sender(Protocol):
    """The part of a channel that a batch needs."""

    def basic_publish(self, message: Message, **options: Any) -> None:
        """Publishes a message."""


class PublishBatch:
    """A batch of :meth:`kombu.Producer.batch`: buffered messages are sent together and confirmed once."""

    def __init__(self, channel: Sender, max_size: int) -> None:
        self.channel = channel
        self._max_size = max_size
        self._buffer: list[tuple[Message, dict[str, Any]]] = []

    def publish(self, message: Message, **options: Any) -> None:
        """Buffers a message; the ``max_size``-th message sends them all."""
        self._buffer.append((message, options))
        if len(self._buffer) >= self._max_size:
            self.flush()

    def flush(self) -> None:
        """Sends the buffered messages and waits for the broker.

        Raises:
            BatchPublishError: the broker has not acknowledged some of them.
        """
        messages, self._buffer = self._buffer, []
        try:
            with confirmed():
                for message, options in messages:
                    self.channel.basic_publish(message, **options)
        except KafkaExecError as error:
            raise BatchPublishError(f"delivery of the batch is uncertain: {error}") from error

    def discard(self) -> None:
        """Forgets the buffered messages."""
        self._buffer.clear()

    def close(self) -> None:
        """Ends the batch."""
        self._buffer.clear()
