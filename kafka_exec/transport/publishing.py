"""Publishing several messages together, and what an unreachable broker means to the publisher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kombu.exceptions import BatchPublishError

from kafka_exec.errors import ConnectionFailed, KafkaExecError, NotConfirmed
from kafka_exec.kafka.producer import confirmed

if TYPE_CHECKING:
    from kafka_exec.core.envelope import Message
    from kafka_exec.transport.channel import Channel


def has_failover(client: Any) -> bool:
    """Whether a Kombu connection knows more than one broker URL."""
    return len(client.alt) > 1


@contextmanager
def in_time(client: Any) -> Iterator[None]:
    """Turns a missing acknowledgement into a connection error if Kombu has another broker URL to fail over to.

    Otherwise it stays :class:`NotConfirmed`, which Kombu does not retry: librdkafka has retried for the whole time, and a
    second message could run the task twice.
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


class PublishBatch:
    """A batch of :meth:`kombu.Producer.batch`: buffered messages are sent together and confirmed once."""

    def __init__(self, channel: Channel, max_size: int) -> None:
        self.channel = channel
        self._max_size = max_size
        self._buffer: list[tuple[Message, dict[str, Any]]] = []

    def publish(self, message: Message, **options: Any) -> None:
        """Buffers a message; the ``max_size``-th sends them all."""
        self._buffer.append((message, options))
        if len(self._buffer) >= self._max_size:
            self.flush()

    def flush(self) -> None:
        """Sends what is buffered and waits for the broker.

        Raises:
            BatchPublishError: some were not acknowledged.
        """
        messages, self._buffer = self._buffer, []
        try:
            with confirmed():
                for message, options in messages:
                    self.channel.basic_publish(message, **options)
        except KafkaExecError as error:
            raise BatchPublishError(f"delivery of the batch is uncertain: {error}") from error

    def discard(self) -> None:
        """Forgets what is buffered."""
        self._buffer.clear()

    def close(self) -> None:
        """Ends the batch."""
        self._buffer.clear()
