"""The record format of a message: the body is the value, and each header is encoded and decoded here.

AMQP's properties and headers are Kafka headers.

Any Kafka tool can read it. The headers are ``content-type``, ``content-encoding``, ``exchange``, ``routing-key``,
``kafka-exec-version``, where they are set ``ordering-key``, ``deduplication-id`` and ``retry-of``, and, as one JSON object
each, ``headers`` and ``properties``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from kafka_exec.core.message.taskmessage import facts
from kafka_exec.core.queue.lanes import Lane, Run, Ticket
from kafka_exec.core.record.fields import MOST_PARTITIONS, an_object, digits, from_json, moment, shown, text, whole
from kafka_exec.errors import Undecodable, Unwritable

VERSION = b"1"

#: Under this name a delivered task's headers say where its record is: partition, offset, and when it was published.
RECORD_HEADER = "kafka_record"

#: Under this name a task's request has its fencing token: of a run with an ordering key, and of one that was begun again, a
#: number that is greater than that of each run before it in its partition. What it writes to can refuse lower ones.
#: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
FENCE = "fence"

#: Under these names a task's headers say that it waits for those of the same key before it, that a second one of the same id
#: is to be dropped, and that its failure stops its key. Headers survive Celery's retries and canvas, properties do not.
ORDERING_KEY = "ordering_key"
DEDUPLICATION_ID = "deduplication_id"
STOPS_ON_FAILURE = "ordering_stops_on_failure"

#: Under this name the headers of a task that was sent anew by its own run say which record that was a run of. If a second
#: message says the same, its sender was killed before anybody knew of the first, and ran once more.
RETRY_OF = "retry_of"

#: Under this name a task's headers say when it was first sent, epoch seconds: it stays so, however often it is sent anew.
CREATED = "kafka_created"

#: The record header that says over how many partitions the keys of its queue are spread, whatever is added later.
_KEYS_OVER = "keys-over"

RecordHeaders = list[tuple[str, bytes]]
Headers = Sequence[tuple[str, "bytes | None"]]

#: What a consumer must know of a record before it is decoded.
_LANE_HEADERS = ((ORDERING_KEY, "ordering-key"), (DEDUPLICATION_ID, "deduplication-id"), (RETRY_OF, "retry-of"))

#: Makes a JSON value of one that JSON does not know, and back of an object what it was made of.
ToJson = Callable[[Any], Any]
FromJson = Callable[[dict[str, Any]], Any]


class Message(NamedTuple):
    """A message on its way, in AMQP's terms. ``body`` is what the serializer made."""

    body: bytes
    content_type: str
    content_encoding: str
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    exchange: str = ""
    routing_key: str = ""

    @property
    def key(self) -> str:
        """What decides the partition: the ordering key, else the task's id. All else shares one, and keeps its order."""
        if isinstance(key := self.headers.get(ORDERING_KEY), str):
            return key
        task_id = (self.headers if "id" in self.headers else self.task).get("id")
        return task_id if isinstance(task_id, str) else self.routing_key

    @property
    def task(self) -> Mapping[str, Any]:
        """What it says of its task, in whichever protocol; empty if it is none."""
        return facts(self.headers, self.body, self.content_type)

    @property
    def is_bound(self) -> bool:
        """Whether it must be in the same partition as others of its key, also if partitions are added."""
        return not self.headers.keys().isdisjoint((ORDERING_KEY, DEDUPLICATION_ID))


def bind(headers: Headers, over: int) -> Headers:
    """The record headers of a message whose queue spreads its keys over so many partitions."""
    return [*headers, (_KEYS_OVER, str(over).encode())]


def keys_over(headers: Headers | None) -> int | None:
    """What :func:`bind` has said; None: nothing."""
    try:
        return whole(digits(dict(headers or ()).get(_KEYS_OVER)), least=1, most=MOST_PARTITIONS)
    except ValueError:
        return None


def encode(message: Message, to_json: ToJson | None = None) -> RecordHeaders:
    """The Kafka headers of a message.

    Args:
        to_json: of what JSON does not know.

    Raises:
        Unwritable: one of its headers or properties cannot be written so that it is read as it was.
    """
    lanes = [(name, header) for header, name in _LANE_HEADERS if message.headers.get(header) is not None]
    for _, header in lanes:
        try:
            text(message.headers[header])
        except ValueError as error:
            raise Unwritable(f"the header {header!r} cannot be sent: {error}") from None
    return [
        ("kafka-exec-version", VERSION),
        ("content-type", message.content_type.encode()),
        ("content-encoding", message.content_encoding.encode()),
        ("exchange", message.exchange.encode()),
        ("routing-key", message.routing_key.encode()),
        ("headers", headers_as_json(message.headers, to_json)),
        ("properties", _json("property", message.properties, to_json)),
        *((name, message.headers[header].encode()) for name, header in lanes),
    ]


def headers_as_json(headers: Mapping[str, Any], to_json: ToJson | None = None) -> bytes:
    """A message's headers as they stand in the record. Raises and ``to_json``: as :func:`encode`."""
    return _json("header", headers, to_json)


@lru_cache(maxsize=8)
def _encoders(to_json: ToJson | None) -> tuple[Callable[[Any], str], Callable[[Any], str]]:
    """What writes JSON: as UTF-8, and with escapes only."""
    encoders = (
        json.JSONEncoder(separators=(",", ":"), ensure_ascii=ascii_only, default=to_json)
        for ascii_only in (False, True)
    )
    plain, escaped = (encoder.encode for encoder in encoders)
    return plain, escaped


def _json(what: str, value: Mapping[str, Any], to_json: ToJson | None) -> bytes:
    plain, escaped = _encoders(to_json)
    try:
        return plain(value).encode()
    except UnicodeEncodeError:
        return escaped(value).encode()  # a lone surrogate, as Python has it in undecodable file names
    except Exception as error:
        raise _refusal(what, value, plain, error) from None


def _refusal(what: str, values: Mapping[str, Any], dump: Callable[[Any], str], error: Exception) -> Unwritable:
    """Why values cannot be written, with the name of the first one that cannot."""
    for name, value in values.items():
        try:
            dump({name: value})
        except UnicodeEncodeError:
            continue
        except Exception as reason:
            return Unwritable(
                f"the {what} {name!r} cannot be sent, since it would not come as it is: {shown(value)} ({reason})"
            )
    return Unwritable(f"a {what} cannot be sent: {error}")


def decode(headers: Headers | None, value: bytes | None, hook: FromJson | None = None) -> Message:
    """The message of a record.

    Args:
        hook: tells of an object what it was made of; None: all is left as JSON has it.

    Raises:
        Undecodable: the record was not written by :func:`encode`, or by a newer version of it.
    """
    found = dict(headers or ())
    content_type = found.get("content-type")
    if not content_type:
        raise Undecodable("no-content-type", "the record has no content-type header")
    version = found.get("kafka-exec-version")
    if version is not None and version != VERSION:
        raise Undecodable("unknown-version", f"the record has format version {version[:20]!r}")
    try:
        return Message(
            body=value or b"",
            content_type=content_type.decode(),
            content_encoding=(found.get("content-encoding") or b"utf-8").decode(),
            headers=_object(found.get("headers"), hook),
            properties=_object(found.get("properties"), hook),
            exchange=(found.get("exchange") or b"").decode(),
            routing_key=(found.get("routing-key") or b"").decode(),
        )
    except ValueError as error:
        raise Undecodable("bad-headers", f"the record's headers cannot be read: {error}") from None


def _object(data: bytes | None, hook: FromJson | None = None) -> dict[str, Any]:
    # Only an object that says so was made of something.
    return an_object(from_json(data, hook if data and b"__type__" in data else None)) if data else {}


def place_name(topic: str, partition: int, offset: int) -> str:
    """A record, as ``retry-of`` names it."""
    return f"{topic}/{partition}/{offset}"


def created_at(created: object, place: Mapping[str, Any]) -> float | None:
    """When a task was created, epoch seconds: as it says itself, else when its record was published.

    Args:
        created: what its headers have under :data:`CREATED`.
        place: what they have under :data:`RECORD_HEADER`.
    """
    with suppress(ValueError):
        return moment(created)
    return place.get("timestamp")


def ticket_of(
    headers: Headers | None, value: bytes | None, topic: str, partition: int, *, restarted: bool = False
) -> Ticket | None:
    """The place in its lane of a task's record; None: it is in none.

    Args:
        value: the record's.
        topic: where the record is.
        partition: where the record is.
        restarted: its run was begun before, and may have sent the task anew.
    """
    named = dict(headers or ())
    key, unique, retry_of = named.get("ordering-key"), named.get("deduplication-id"), named.get("retry-of")
    if not (key or unique or retry_of or restarted):
        return None
    try:
        task = facts(_object(named.get("headers")), value, (named.get("content-type") or b"").decode())
        run, name = Run(text(task.get("id")), whole(task.get("retries") or 0)), text(task.get("task"))
        lane = Lane("key", key.decode(errors="replace")) if key else Lane("id", run.task_id)
    except ValueError:
        return None  # no task: whoever decodes it says so
    return Ticket(lane, run, is_unique=bool(unique), origin=_origin(retry_of, topic, partition), task=name)


def _origin(retry_of: bytes | None, topic: str, partition: int) -> int | None:
    """The offset that ``retry-of`` names, of a record of the same partition."""
    place, _, offset = (retry_of or b"").decode(errors="replace").rpartition("/")
    try:
        found = digits(offset)
    except ValueError:
        return None
    return found if place_name(topic, partition, found) == f"{place}/{offset}" else None


def dead_letter_headers(
    original: Sequence[tuple[str, bytes | None]] | None,
    *,
    reason: str,
    error: str,
    topic: str,
    partition: int,
    offset: int,
) -> list[tuple[str, bytes | None]]:
    """The headers of a dead letter: those of the record, then why and whence it came."""
    return [
        *(original or ()),
        ("dead-reason", reason.encode()),
        ("dead-error", error.encode(errors="backslashreplace")),
        ("dead-topic", topic.encode()),
        ("dead-partition", str(partition).encode()),
        ("dead-offset", str(offset).encode()),
    ]


#: In place of a value, and of long headers, that would have made a dead letter larger than its topic accepts.
CUT = "dead-cut"

#: Headers up to this length stay, bytes, and so many of them.
_SHORT, _MOST_SHORT = 1000, 100


def cut(letter: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    """The headers of a dead letter that is too large to be kept whole: of those of the record only short ones."""
    *originals, reason, error, topic, partition, offset = letter
    short = [each for each in originals if len(each[0]) + len(each[1] or b"") <= _SHORT][:_MOST_SHORT]
    return [*short, reason, (error[0], (error[1] or b"")[:_SHORT]), topic, partition, offset, (CUT, b"1")]


def short_key(key: bytes | None) -> bytes | None:
    """The key of a dead letter that is too large to be kept whole."""
    return key if key is None or len(key) <= _SHORT else None


def expired(message: Message, timestamp: float, queue_ttl: float | None, now: float) -> bool:
    """Whether a message has outlived its time.

    The time is the property ``expiration`` (milliseconds, a string, as in AMQP) or the queue's time to live, whichever
    is less. A Celery task with ``expires`` is never dropped here: the worker must see it to mark it as revoked.

    Args:
        timestamp: when the record was written, epoch seconds.
        queue_ttl: the queue's ``x-message-ttl``, seconds.
        now: epoch seconds.
    """
    if queue_ttl is None and "expiration" not in message.properties:
        return False
    if message.headers.get("expires") or message.task.get("expires"):
        return False
    limits = [queue_ttl] if queue_ttl is not None else []
    with suppress(KeyError, TypeError, ValueError, OverflowError):  # then it has no limit of its own
        limits.append(int(message.properties["expiration"]) / 1000)
    return bool(limits) and now >= timestamp + min(limits)
