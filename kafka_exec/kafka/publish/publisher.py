"""Publishing: one idempotent producer per process, shared by all threads, and waiting for the broker's acknowledgement."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure
from kafka_exec.errors import KafkaExecError, NotConfirmed
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.client.failures import failure, reason_of, time_left
from kafka_exec.kafka.client.loop import Loop
from kafka_exec.kafka.publish import meters, scopes
from kafka_exec.kafka.publish.scopes import Confirmation, Outgoing, publish_error

logger = logging.getLogger("kafka_exec")

OnDelivery = Callable[[KafkaError | None, Record], None]

#: The most unconfirmed messages that one scope may have under way; beyond it, sending waits.
MOST_OUTSTANDING = 10_000

_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)

#: The time between two looks of a waiting thread while another one does the polling, seconds.
_SLICE = 0.01


def _fatal(error: Exception) -> KafkaError:
    """The fatal error that a client raises once, and from which it never recovers.

    The client raises it within a callback, so that a second callback may have made a SystemError of it.
    """
    found = error if isinstance(error, KafkaException) else error.__cause__
    return found.args[0] if isinstance(found, KafkaException) else KafkaError(KafkaError._FATAL)


class Publisher:
    """The process's producer. Thread-safe."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._timeout = clients.settings.publish_timeout
        self._handle = self._new_handle()
        self._polling = native.lock()
        self._waiting: set[Confirmation] = set()
        self._cause = KafkaError(KafkaError._FATAL)
        self._replacing = native.lock()
        self._broken: list[Producer] = []
        self._poller = Loop("producer", lambda: self._serve(0.5)) if native.is_green() else None
        if self._poller is not None:
            self._poller.start()
        clients.on_close(self.flush)

    def _new_handle(self) -> Producer:
        return self._clients.new_producer(
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
        """Remembers a fatal error: the client tells it once, to a thread that polls, and another thread may publish."""
        cause = _fatal(error)
        if cause.code() != KafkaError._FATAL:
            self._cause = cause

    def _replace(self, broken: Producer) -> None:
        """Replaces a producer after a fatal error. A thread that polls learns what became of its messages.

        This does not poll: a thread that publishes may hold a lock that the reports of other messages need.
        """
        with self._replacing:
            if self._handle is not broken:
                return
            self._broken.append(broken)
            self._handle = self._new_handle()
        broken.purge()
        logger.info("a producer has failed for good, another one takes its place")

    def _poll_broken(self) -> None:
        """Has the reports called of messages that replaced producers have published."""
        for broken in tuple(self._broken):
            try:
                broken.poll(0)
            except (KafkaException, SystemError) as error:
                self._note(error)
            with self._replacing:
                if not len(broken) and broken in self._broken:
                    self._broken.remove(broken)
                    self._clients.forget(broken)

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
            partition: the partition to write to; by default the key decides.
            timeout: seconds to wait for the acknowledgement; by default, and at most, the publish timeout.
            at_once: wait now, also within a scope.

        Raises:
            NotConfirmed: the broker has not acknowledged it in time.
            MessageTooLarge: it is larger than client or topic accept.
        """
        if (records := scopes.capture()) is not None:
            records.append(Outgoing(topic, value, key, tuple(headers), partition))
            return
        scope = scopes.scope()
        if scope is not None and not at_once and scope.publisher in (None, self):
            scope.publisher = self
            if scope.outstanding >= MOST_OUTSTANDING:
                self.wait(scope, MOST_OUTSTANDING // 2, timeout)
            self._produce(topic, value, key, headers, partition, scope)
            return
        self._send_now(topic, value, key, headers, partition, timeout)

    def append(self, topic: str, value: bytes, *, key: str, partition: int) -> int:
        """Publishes a record at once, whichever scope this code runs in. Returns its offset when it is acknowledged.

        Raises:
            NotConfirmed: the broker has not acknowledged it in time.
            MessageTooLarge: it is larger than client or topic accept.
        """
        offset = self._send_now(topic, value, key, (), partition, None)
        if offset is None:
            raise NotConfirmed(f"publishing to {topic}: the broker has not said at which offset the record is")
        return offset

    def _send_now(
        self,
        topic: str,
        value: bytes | None,
        key: str | bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int | None,
        timeout: float | None,
    ) -> int | None:
        confirmation = Confirmation()
        confirmation.publisher = self
        try:
            self._produce(topic, value, key, headers, partition, confirmation)
            confirmation.confirm(timeout)
        finally:
            confirmation.close()
        return confirmation.offset

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
        if (records := scopes.capture()) is not None:
            records.append(Outgoing(topic, value, key, tuple(headers), partition))
            return
        self._produce(topic, value, key, headers, partition, None)
        self._serve(0)

    def enqueue(self, topic: str, value: bytes, partition: int, on_delivery: OnDelivery) -> None:
        """Publishes a record some time soon. It never waits, and no scope holds the record back.

        Args:
            on_delivery: called with the outcome, in the thread that calls :meth:`serve`.

        Raises:
            KafkaExecError: the record cannot be published now.
        """
        self._produce(topic, value, None, (), partition, None, on_delivery)

    def serve(self, timeout: float = 0.0) -> None:
        """Has the reports of deliveries called, the present ones, or the first ones that come within ``timeout`` seconds.

        Another thread that does the same may take them.
        """
        self._serve(timeout)

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
        replaced = False
        where = -1 if partition is None else partition  # -1: the partitioner's choice
        never_waits = on_delivery is not None
        if on_delivery is None:
            on_delivery = self._settle_posted if confirmation is None else partial(self._settle, confirmation)
        if confirmation is not None:
            confirmation.sent += 1
        while True:
            handle = self._handle
            try:
                self._clients.check_size(value, key, headers)
                handle.produce(topic, value, key, partition=where, headers=list(headers), on_delivery=on_delivery)
                return
            except BufferError:
                if never_waits:
                    raise NotConfirmed(f"publishing to {topic}: too many messages wait to be sent") from None
                deadline = deadline or time.monotonic() + self._timeout
                if time.monotonic() < deadline:
                    native.call(self._handle.poll, 0.05)
                    continue
                refusal: KafkaExecError = NotConfirmed(f"publishing to {topic}: too many messages wait to be sent")
                meters.not_sent(None)
            except KafkaException as error:
                cause = reason_of(error)
                if failure(cause) is Failure.FATAL:
                    self._replace(handle)
                    if not replaced:
                        replaced = True
                        continue  # the new producer publishes the record
                    cause = self._cause
                refusal = publish_error(cause, topic)
                meters.not_sent(cause)
                self._clients.topic_refused(topic)
            if confirmation is not None:
                confirmation.sent -= 1
            raise refusal

    def _settle(self, confirmation: Confirmation, error: KafkaError | None, record: Record) -> None:
        if error is not None and error.code() in _PURGED:
            error = self._cause  # for which the producer was replaced
        if error is not None:
            self._clients.topic_refused(str(record.topic()))
        meters.published(error, record)
        confirmation.settle(error, record)

    def _settle_posted(self, error: KafkaError | None, record: Record) -> None:
        if error is None:
            return
        meters.published(error, record)
        self._clients.last_error = f"a broadcast to {record.topic()} was lost: {error.str()}"

    def wait(self, confirmation: Confirmation, until: int, timeout: float | None) -> None:
        """Waits until at most ``until`` messages of a confirmation are outstanding.

        One of the waiting threads polls for all of them; under a cooperative scheduler a thread of its own does.
        """
        # librdkafka reports every message by the publish timeout, so the slack is for the report's way only.
        limit = time_left(min(timeout or self._timeout, self._timeout)) + 1.0
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
            self._clients.answered()

    def flush(self, timeout: float) -> None:
        """Sends the records that wait to be sent, as far as it can within ``timeout`` seconds."""
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
            self._replace(handle)
        if self._broken:
            self._poll_broken()


class JournalPublisher(Publisher):
    """A producer of its own for the journals: records that no thread waits for do not hold up those that one waits for."""
