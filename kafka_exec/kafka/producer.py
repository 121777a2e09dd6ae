"""Publishing: one idempotent producer per process, shared by all threads, and waiting for the broker's acknowledgement."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Record

from kafka_exec.errors import AccessRefused, Forbidden, KafkaExecError, NotConfirmed
from kafka_exec.kafka import native
from kafka_exec.kafka.client import translate

if TYPE_CHECKING:
    from kafka_exec.kafka.client import Cluster

OnDelivery = Callable[[KafkaError | None, Record], None]

#: Unconfirmed messages that one scope may have under way; beyond it, sending waits.
MOST_OUTSTANDING = 10_000

#: A waiting thread looks after itself this often when another one does the polling, seconds.
_SLICE = 0.01


class Confirmation:
    """The messages of one scope that wait for their acknowledgement."""

    def __init__(self) -> None:
        self.sent = 0
        self.settled = 0
        self.errors: list[KafkaExecError] = []
        self.cluster: Cluster | None = None
        self._lock = native.lock()
        self._waker = native.Waker() if native.is_green() else None
        self._event = None if self._waker else threading.Event()

    @property
    def outstanding(self) -> int:
        return self.sent - self.settled

    def settle(self, error: KafkaError | None, record: Record) -> None:
        """The delivery report of one message, called by whichever thread polls."""
        if error is not None:
            self.errors.append(_publish_error(error, record.topic()))
            if self.cluster is not None:
                self.cluster.topics.forget(str(record.topic()))
        with self._lock:
            self.settled += 1
            complete = self.settled >= self.sent
        if complete:
            self.nudge()

    def nudge(self) -> None:
        """Wakes whoever waits."""
        if self._waker is not None:
            self._waker.wake()
        elif self._event is not None:
            self._event.set()

    def pause(self, timeout: float) -> None:
        """Waits for :meth:`nudge`."""
        if self._waker is not None:
            self._waker.wait(timeout)
        elif self._event is not None:
            self._event.wait(timeout)
            self._event.clear()

    def confirm(self, timeout: float | None = None) -> None:
        """Waits until every message sent so far is acknowledged.

        Raises:
            NotConfirmed: one was not in time (seconds; the publish timeout by default), or was refused.
        """
        if self.cluster is not None and self.outstanding:
            self.cluster.publisher.wait(self, 0, timeout)
        if self.errors:
            errors, self.errors = self.errors, []
            if self.sent == 1:
                raise errors[0]
            raise NotConfirmed(f"{len(errors)} of {self.sent} messages were not published; the first: {errors[0]}")

    def close(self) -> None:
        if self._waker is not None:
            self._waker.close()


_scope: contextvars.ContextVar[Confirmation | None] = contextvars.ContextVar("kafka_exec_confirmation", default=None)


@contextmanager
def confirmed() -> Iterator[Confirmation]:
    """A scope whose messages are sent without waiting and confirmed together at its end.

    The scope is that of the thread or greenlet; an inner scope confirms its own messages at its own end. When the block
    raises, its error goes on, and what was sent stays sent.
    """
    confirmation = Confirmation()
    token = _scope.set(confirmation)
    try:
        yield confirmation
        confirmation.confirm()
    finally:
        _scope.reset(token)
        confirmation.close()


class Outgoing(NamedTuple):
    """A record that is to be published; without a partition its key decides."""

    topic: str
    value: bytes | None
    key: str | bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int | None = None


_captured: contextvars.ContextVar[list[Outgoing] | None] = contextvars.ContextVar("kafka_exec_captured", default=None)


@contextmanager
def captured() -> Iterator[list[Outgoing]]:
    """A scope of a thread or greenlet in which nothing is published: the list gets what would have been.

    Publishing returns at once there, so that code which knows only publishing can make records for a transaction.
    """
    records: list[Outgoing] = []
    token = _captured.set(records)
    try:
        yield records
    finally:
        _captured.reset(token)


@contextmanager
def uncaptured() -> Iterator[None]:
    """A scope within that of :func:`captured` in which all is published: for what must not depend on the transaction."""
    token = _captured.set(None)
    try:
        yield
    finally:
        _captured.reset(token)


def is_capturing() -> bool:
    """Whether this code runs in the scope of :func:`captured`."""
    return _captured.get() is not None


def _publish_error(error: KafkaError, topic: str | None) -> KafkaExecError:
    translated = translate(error, f"publishing to {topic}")
    if isinstance(translated, (AccessRefused, Forbidden)):
        return NotConfirmed(str(translated))
    if error.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE):
        return NotConfirmed(f"publishing to {topic}: no acknowledgement of the broker in time")
    return translated


def _fatal(error: Exception) -> KafkaError:
    """The error that a client raises once, and never recovers of.

    It is raised within a callback, so that a second callback may have made a SystemError of it.
    """
    found = error if isinstance(error, KafkaException) else error.__cause__
    return found.args[0] if isinstance(found, KafkaException) else KafkaError(KafkaError._FATAL)


class Publisher:
    """The process's producer. Thread-safe."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._timeout = cluster.settings.publish_timeout
        self._handle = self._new_handle()
        self._polling = native.lock()
        self._waiting: set[Confirmation] = set()
        self._stopped = False
        self._cause = KafkaError(KafkaError._FATAL)
        self._poller = native.Thread(self._poll, "kafka-exec-producer") if native.is_green() else None
        cluster.on_close(self.flush)

    def _new_handle(self) -> Producer:
        return self._cluster.new_producer(
            {
                "enable.idempotence": True,
                "acks": "all",
                # A broker that knows no producer of a partition takes any sequence number: when it is not yet the leader for
                # a first batch, and is for the second, librdkafka counts the first as acknowledged. (Tried: one in some
                # hundred new topics lost its first message.) So there is no second before the first is answered.
                "max.in.flight.requests.per.connection": 1,
                "linger.ms": 0,
                "partitioner": "murmur2_random",
                "delivery.timeout.ms": int(self._timeout * 1000),
                "queue.buffering.max.messages": 100_000,
                "queue.buffering.max.kbytes": 64 * 1024,
            }
        )

    def _note(self, error: Exception) -> None:
        """Remembers what a fatal error is: whoever polls is told, once, and somebody else may be who publishes."""
        cause = _fatal(error)
        if cause.code() != KafkaError._FATAL:
            self._cause = cause

    def _replace(self, broken: Producer) -> KafkaError:
        """After a fatal error, of which a producer never recovers; what it was, or was before if that is not told."""
        self._flush(broken, 1.0)
        try:
            broken.poll(0.5)  # sending fails a moment before the cause is told
        except (KafkaException, SystemError) as error:
            self._note(error)
        if self._handle is broken:
            self._handle = self._new_handle()
            self._cluster.forget(broken)
        return self._cause

    def ask(self, timeout: float) -> None:
        """Asks the cluster for its metadata. Raises KafkaException if it does not answer in ``timeout`` seconds."""
        try:
            self._handle.list_topics("kafka_exec.probe", timeout)
        finally:
            try:
                self._handle.poll(0)  # serves error_cb
            except (KafkaException, SystemError) as error:
                self._note(error)

    def metadata(self, topic: str | None, timeout: float) -> Any:
        """The cluster's metadata with one topic, or with all."""
        return self._handle.list_topics(topic, timeout)

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: str | bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int | None = None,
        timeout: float | None = None,
        at_once: bool = False,
    ) -> None:
        """Publishes a record and returns when the broker has acknowledged it, or at the end of the scope it is in.

        Args:
            partition: where to; by default the key decides.
            timeout: seconds to wait for the acknowledgement; by default, and at most, the publish timeout.
            at_once: wait now, also within a scope.

        Raises:
            NotConfirmed: the broker has not acknowledged it in time.
            MessageTooLarge: it is larger than client or topic accept.
        """
        if (records := _captured.get()) is not None:
            records.append(Outgoing(topic, value, key, tuple(headers), partition))
            return
        scope = _scope.get()
        if scope is not None and not at_once and scope.cluster in (None, self._cluster):
            scope.cluster = self._cluster
            if scope.outstanding >= MOST_OUTSTANDING:
                self.wait(scope, MOST_OUTSTANDING // 2, timeout)
            self._produce(topic, value, key, headers, partition, scope)
            return
        confirmation = Confirmation()
        confirmation.cluster = self._cluster
        try:
            self._produce(topic, value, key, headers, partition, confirmation)
            confirmation.confirm(timeout)
        finally:
            confirmation.close()

    def post(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: str | bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> None:
        """Publishes a record without waiting: for events, remote control and replies."""
        if (records := _captured.get()) is not None:
            records.append(Outgoing(topic, value, key, tuple(headers), partition))
            return
        self._produce(topic, value, key, headers, partition, None)
        self._serve(0)

    def enqueue(self, topic: str, value: bytes, partition: int, on_delivery: OnDelivery) -> None:
        """Publishes a record some time soon; never waits, and no scope holds it back.

        Args:
            on_delivery: called with what became of it, in the thread that calls :meth:`serve`.

        Raises:
            KafkaExecError: it cannot be published now.
        """
        self._produce(topic, value, None, (), partition, None, on_delivery)

    def serve(self) -> None:
        """Has the reports of deliveries called that are there, unless another thread does."""
        self._serve(0)

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: str | bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int | None,
        confirmation: Confirmation | None,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        deadline = None
        where = -1 if partition is None else partition  # -1: the partitioner's choice
        never_waits = on_delivery is not None
        if on_delivery is None:
            on_delivery = confirmation.settle if confirmation is not None else self._settle_posted
        if confirmation is not None:
            confirmation.sent += 1
        while True:
            handle = self._handle
            try:
                handle.produce(topic, value, key, partition=where, headers=list(headers), on_delivery=on_delivery)
                return
            except BufferError:
                if never_waits:
                    raise NotConfirmed(f"publishing to {topic}: too many messages wait to be sent") from None
                deadline = deadline or time.monotonic() + self._timeout
                if time.monotonic() < deadline:
                    native.call(self._handle.poll, 0.05)
                    continue
                failure: KafkaExecError = NotConfirmed(f"publishing to {topic}: too many messages wait to be sent")
            except KafkaException as error:
                cause = error.args[0]
                if cause.code() == KafkaError._FATAL:
                    cause = native.call(self._replace, handle)
                failure = _publish_error(cause, topic)
                self._cluster.topics.forget(topic)
            if confirmation is not None:
                confirmation.sent -= 1
            raise failure

    def _settle_posted(self, error: KafkaError | None, record: Record) -> None:
        if error is None:
            return
        self._cluster.last_error = f"a broadcast to {record.topic()} was lost: {error.str()}"

    def wait(self, confirmation: Confirmation, until: int, timeout: float | None) -> None:
        """Waits until at most ``until`` messages of a confirmation are outstanding.

        One of the waiting threads polls for all of them; under a cooperative scheduler a thread of its own does.
        """
        # librdkafka reports every message by the publish timeout, so the slack is for the report's way only.
        limit = min(timeout or self._timeout, self._timeout) + 1.0
        deadline = time.monotonic() + limit
        self._waiting.add(confirmation)
        try:
            while confirmation.outstanding > until:
                if time.monotonic() > deadline:
                    raise NotConfirmed(f"no acknowledgement of the broker within {limit:.0f} s")
                if self._poller is not None:
                    confirmation.pause(0.5)
                elif self._polling.acquire(False):
                    try:
                        while confirmation.outstanding > until and time.monotonic() <= deadline:
                            self._serve(0.1)
                    finally:
                        self._polling.release()
                else:
                    confirmation.pause(_SLICE)
        finally:
            self._waiting.discard(confirmation)
            for other in list(self._waiting)[:1]:
                other.nudge()  # one of those that still wait goes on polling
        if not confirmation.errors:
            self._cluster.answered()

    def _poll(self) -> None:
        while not self._stopped:
            self._handle.poll(0.5)

    def flush(self, timeout: float) -> None:
        """Sends what is still to be sent, as far as it can within ``timeout`` seconds."""
        native.call(self._flush, self._handle, timeout)

    def _flush(self, handle: Producer, timeout: float) -> None:
        try:
            handle.flush(timeout)
        except (KafkaException, SystemError) as error:
            self._note(error)

    def _serve(self, timeout: float) -> None:
        """Polls: has the reports of messages delivered."""
        handle = self._handle
        try:
            handle.poll(timeout)
        except (KafkaException, SystemError) as error:
            self._note(error)
            raise _publish_error(native.call(self._replace, handle), "Kafka") from None


class JournalPublisher(Publisher):
    """A producer of its own for the journals: what nobody waits for does not queue before what somebody does."""
