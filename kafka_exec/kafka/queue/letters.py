"""Dead letters as they are written: the record with the reason of its end, or a part of that if it is too large."""

from __future__ import annotations

from confluent_kafka import Message as Record

from kafka_exec.core.message.envelope import CUT, Headers, cut, dead_letter_headers, short_key
from kafka_exec.errors import MessageTooLarge
from kafka_exec.kafka.publish.publisher import Publisher
from kafka_exec.kafka.publish.scopes import Outgoing


def letter_of(
    record: Record, topic: str, *, reason: str, error: str, headers: Headers | None = None, died_in: str | None = None
) -> Outgoing:
    """The dead letter of a record.

    Args:
        topic: the topic of dead letters like this one.
        headers: the headers that take the place of the record's.
        died_in: the topic to which a replay sends it; by default the record's.
    """
    why = dead_letter_headers(
        record.headers() if headers is None else headers,
        reason=reason,
        error=error,
        topic=died_in or record.topic(),
        partition=record.partition(),
        offset=record.offset(),
    )
    return Outgoing(topic, record.value(), record.key(), why)


def rest_of(letter: Outgoing) -> Outgoing | None:
    """The part of a letter that is kept if the whole is too large for Kafka; None if it is a part already."""
    if letter.headers[-1][0] == CUT:
        return None
    key = letter.key.encode() if isinstance(letter.key, str) else letter.key
    return letter._replace(value=None, key=short_key(key), headers=cut(letter.headers))


def bury(publisher: Publisher, letter: Outgoing) -> None:
    """Publishes a dead letter, or the part of it that Kafka takes, durably.

    Raises:
        KafkaExecError: the cluster does not take it.
    """
    try:
        publisher.send(letter.topic, letter.value, key=letter.key, headers=letter.headers)
    except MessageTooLarge:
        if (rest := rest_of(letter)) is None:
            raise
        publisher.send(rest.topic, rest.value, key=rest.key, headers=rest.headers)
