"""Transactions: many records written at once or not at all, by the only holder of a transactional id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.failures import Failure, failure_of
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.client.complaints import Setback
from kafka_exec.kafka.client.failures import failure, reason_of, translate
from kafka_exec.kafka.publish.scopes import Outgoing

#: How long one step of a transaction may take, seconds: beyond it the broker aborts the transaction.
TIMEOUT = 10.0

#: For how long a topic that was made a moment ago may be unknown, seconds.
_PROPAGATION = 2.0

#: After a refusal the client may let the next transaction fail too, to begin its sequence numbers anew.
_TRIES = 3

#: The failures that any record would have in the same topic.
_OF_TOPICS = (Failure.MISSING, Failure.FORBIDDEN)

#: The failures that another try would have again.
_DETERMINISTIC = (*_OF_TOPICS, Failure.TOO_LARGE, Failure.WRONG)


class Refused(Setback):
    """Some of the records can never be written; none was. ``errors``: their topics, each with the reason."""

    def __init__(self, errors: Sequence[tuple[str, KafkaError]]) -> None:
        self.errors = errors
        topic, error = errors[0]
        super().__init__(str(translate(error, f"publishing to {topic}")))

    def concerns(self, *topics: str) -> bool:
        """True if a record of one of these topics was refused."""
        return any(topic in topics for topic, _ in self.errors)

    def closes(self, *topics: str) -> bool:
        """True if one of these topics takes no record at all, whatever is in it."""
        return any(topic in topics and failure(error) in _OF_TOPICS for topic, error in self.errors)

    @property
    def is_too_large(self) -> bool:
        """True if a record was refused as too large, or as in the same request as one that is."""
        return any(failure(error) is Failure.TOO_LARGE for _, error in self.errors)


class Lost(Setback):
    """Another process has the transactional id, or the outcome of a transaction is unknown: start anew from the log."""


class Transactor:
    """The holder of a transactional id, from :meth:`open` until another process opens it. For one thread at a time."""

    def __init__(self, clients: Clients, transactional_id: str) -> None:
        self._clients = clients
        self._id = transactional_id
        self._producer: Producer | None = None
        self._records: list[Outgoing] = []
        self._refused: list[tuple[str, KafkaError]] = []
        self._failure: KafkaException | SystemError | None = None
        self._last = -1

    def open(self) -> None:
        """Fences the former holder, and aborts its open transaction.

        Raises:
            Lost: the cluster does not answer, or does not allow it.
        """
        self._producer = self._clients.new_producer(
            {
                "transactional.id": self._id,
                "transaction.timeout.ms": int(TIMEOUT * 1000),
                "delivery.timeout.ms": int(TIMEOUT * 1000),
                "topic.metadata.propagation.max.ms": int(_PROPAGATION * 1000),
                "linger.ms": 0,
                "partitioner": "murmur2_random",
            }
        )
        try:
            self._producer.init_transactions(TIMEOUT)
        except KafkaException as error:
            self._lose(error)

    def begin(self, records: Sequence[Outgoing]) -> None:
        """Begins a transaction of these records, and does not wait; :meth:`commit` ends it, and tells of all failures."""
        self._records = []
        self._refused = []
        self._failure = None
        try:
            self._open_producer.begin_transaction()
        except (KafkaException, SystemError) as error:
            self._failure = error
        self.add(records)

    def add(self, records: Sequence[Outgoing]) -> None:
        """Adds records to the transaction that was begun, and does not wait."""
        self._records += records
        try:
            for record in records if self._failure is None else ():
                self._produce(self._open_producer, record)
        except (KafkaException, SystemError) as error:
            self._failure = error

    def commit(self) -> int:
        """Commits the transaction that was begun. Returns the offset of its last record.

        Raises:
            Refused: some of the records can never be written.
            Lost: it is not known if the records were written.
        """
        tries = 1
        while (error := self._try_to_commit(self._open_producer)) is not None:
            if tries == _TRIES:
                self._lose(error)
            tries += 1
            self.begin(self._records)
        return self._last

    def _try_to_commit(self, producer: Producer) -> KafkaException | None:
        """Tries to commit. Returns the error of an aborted transaction if another try may succeed."""
        try:
            if self._failure is not None:
                raise self._failure
            producer.commit_transaction(TIMEOUT)
        except SystemError:
            # The client raises a fatal error within a callback, and a second callback makes this of it.
            raise Lost(
                f"transactions of {self._id} have failed for good, most likely fenced by another owner"
            ) from None
        except KafkaException as error:
            if reason_of(error).fatal():  # of a transaction's errors the client knows best which can be undone
                self._lose(error)
            self._abort(producer)
            if not self._refused:
                return error
            for topic, reason in self._refused:
                if failure(reason) is Failure.MISSING:
                    self._clients.topic_refused(topic)
            raise Refused(self._refused) from None
        return None

    @property
    def _open_producer(self) -> Producer:
        if self._producer is None:
            raise Lost(f"{self._id} is not open")
        return self._producer

    def _produce(self, producer: Producer, record: Outgoing) -> None:
        where = -1 if record.partition is None else record.partition  # -1: the partitioner's choice
        while True:
            try:
                self._clients.check_size(record.value, record.key, record.headers)
                producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    partition=where,
                    headers=list(record.headers),
                    on_delivery=self._settle,
                )
                return
            except BufferError:
                producer.poll(0.05)
            except KafkaException as error:
                self._note(error.args[0], record.topic)
                raise

    def _settle(self, error: KafkaError | None, record: Record) -> None:
        if error is None:
            self._last = record.offset()
        else:
            self._note(error, record.topic())

    def _note(self, error: KafkaError, topic: str) -> None:
        if failure(error) in _DETERMINISTIC:
            self._refused.append((topic, error))

    def _abort(self, producer: Producer) -> None:
        try:
            producer.abort_transaction(TIMEOUT)
        except KafkaException as error:
            self._lose(error)

    def _lose(self, error: KafkaException) -> NoReturn:
        """Raises Lost. Its cause is what the cluster refuses, or does not answer; None: another holder has the id."""
        reason = translate(error, f"transactions of {self._id}")
        has_another = failure_of(reason_of(error).name()) is Failure.FATAL
        raise Lost(str(reason)) from (None if has_another else reason)

    def close(self) -> None:
        """Lets the id go; the next holder aborts a transaction that was begun and not committed."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            self._clients.forget(producer)
