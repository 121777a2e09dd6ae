"""The record format of a message: the body is the record's value, and each header is encoded and decoded here.

Any Kafka tool can read such a record. Its Kafka headers are ``content-type``, ``content-encoding``, ``exchange``,
``routing-key``, ``kafka-exec-version``, and, where they are set, ``ordering-key``, ``deduplication-id``, ``retry-of``,
``repeated``, and those of :data:`TRACE_CONTEXT`.
AMQP's headers and properties are one JSON object each: the Kafka headers ``headers`` and ``properties``.
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

#: The header of a delivered task that holds the place of its record: topic, partition, offset, and when it was published.
RECORD_HEADER = "kafka_record"

#: The attribute of a task's request that holds the fencing token of the run, if it has an ordering key, or was begun again:
#: a number that is greater than that of each earlier run in its partition. A store can refuse writes with lower ones.
#: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
FENCE = "fence"

#: A request's entry: the monotonic time by which the run must have started. Monotonic clocks of one machine are the same.
START_BY = "start_by"

#: The attribute of a task's request that holds the seconds by which the log's clock is ahead of the monotonic clock, if the
#: other clock of its worker's machine was wrong when it began.
LOG_OFFSET = "kafka_log_offset"

#: The headers of a task that say: it waits for earlier tasks of the same key; a second task of the same id is dropped; its
#: failure stops its key. They are no properties, since Celery's retries and canvas keep headers only.
ORDERING_KEY = "ordering_key"
DEDUPLICATION_ID = "deduplication_id"
STOPS_ON_FAILURE = "ordering_stops_on_failure"

#: The header of a retry that names the record whose run has sent it. If two messages name the same record, a worker was
#: killed after it had sent the first one, and the task has run again and sent the second one.
RETRY_OF = "retry_of"

#: The header of a task that a repeated run has sent: the run's message was begun before, and the run that was lost may have
#: sent the same task. Its value is a time before which that was not possible, epoch seconds. The request of a repeated run
#: has it as an attribute, and each run hands it on to what it sends. What a first run sends has no such header.
REPEATED = "kafka_repeated"

#: The record header of such a task: it waits for a record of the same id that was begun before it.
_REPEATED = "repeated"

#: The header of a task that holds the time when it was first sent, epoch seconds. Retries keep it.
CREATED = "kafka_created"

#: The header of a task that continues after a suspension, or is retried: where its history is, and what it waited for.
CONTINUED = "kafka_continued"

#: The header of such a task: how often it was continued. The number of retries does not count continuations.
CONTINUATIONS = "kafka_continuations"

#: The header of a task for which another one waits: the correlation id under which its end is told.
WAITED_FOR = "kafka_waited_for"

#: The headers of a task that hold its place in a trace, which other Kafka clients look for among the record's headers.
#: https://www.w3.org/TR/trace-context/
TRACE_CONTEXT = ("traceparent", "tracestate", "baggage")

#: The record header with the number of partitions over which the keys of its queue are spread. Added ones do not count.
_KEYS_OVER = "keys-over"

RecordHeaders = list[tuple[str, bytes]]
Headers = Sequence[tuple[str, "bytes | None"]]

#: The headers that a consumer reads before it decodes the record, each with the name of its record header.
_LANE_HEADERS = ((ORDERING_KEY, "ordering-key"), (DEDUPLICATION_ID, "deduplication-id"), (RETRY_OF, "retry-of"))

#: Turns a value that JSON does not know into a JSON value, and such a JSON object back into the value.
ToJson = Callable[[Any], Any]
FromJson = Callable[[dict[str, Any]], Any]


class Message(NamedTuple):
    """A message in AMQP's terms. ``body``: the bytes that the serializer has made."""

    body: bytes
    content_type: str
    content_encoding: str
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    exchange: str = ""
    routing_key: str = ""

    @property
    def key(self) -> str:
        """The key that decides the partition: the ordering key, else the task id, else the routing key.

        So messages that are no tasks share one partition, and keep their order.
        """
        if isinstance(key := self.headers.get(ORDERING_KEY), str):
            return key
        task_id = (self.headers if "id" in self.headers else self.task).get("id")
        return task_id if isinstance(task_id, str) else self.routing_key

    @property
    def task(self) -> Mapping[str, Any]:
        """The facts of its task, in either of Celery's protocols; empty if it is no task."""
        return facts(self.headers, self.body, self.content_type)

    @property
    def is_bound(self) -> bool:
        """True if it must be in the same partition as others of its key, also after partitions were added."""
        return not self.headers.keys().isdisjoint((ORDERING_KEY, DEDUPLICATION_ID))


def bind(headers: Headers, over: int) -> Headers:
    """The record headers of a message, with the number of partitions over which its queue spreads keys."""
    return [*headers, (_KEYS_OVER, str(over).encode())]


def keys_over(headers: Headers | None) -> int | None:
    """The number of partitions that :func:`bind` has written; None if it has written none."""
    try:
        return whole(digits(dict(headers or ()).get(_KEYS_OVER)), least=1, most=MOST_PARTITIONS)
    except ValueError:
        return None


def encode(message: Message, to_json: ToJson | None = None) -> RecordHeaders:
    """The Kafka headers of a message.

    Args:
        to_json: turns a value that JSON does not know into a JSON value.

    Raises:
        Unwritable: a header or property would be read as another value than it is.
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
        *([(_REPEATED, b"1")] if message.headers.get(REPEATED) is not None else []),
        *((name, value.encode()) for name, value in trace_context(message.headers.get).items()),
    ]


def trace_context(get: Callable[[str], Any]) -> dict[str, str]:
    """The place of a task in a trace. ``get``: returns a header of its message, or None."""
    return {name: value for name in TRACE_CONTEXT if isinstance(value := get(name), str) and value.isascii()}


def headers_as_json(headers: Mapping[str, Any], to_json: ToJson | None = None) -> bytes:
    """The value of the record header ``headers``. ``to_json`` and errors are as in :func:`encode`."""
    return _json("header", headers, to_json)


@lru_cache(maxsize=8)
def _encoders(to_json: ToJson | None) -> tuple[Callable[[Any], str], Callable[[Any], str]]:
    """Two functions that write JSON: the first with UTF-8 characters, the second with escapes only."""
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
    """The error for values that cannot be written, with the name of the first of them."""
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
    """The message in a record.

    Args:
        hook: turns a JSON object back into the value that it was made of; None: all values stay as JSON has them.

    Raises:
        Undecodable: :func:`encode` has not written the record, or a newer version of it has.
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
    # Only an object with __type__ was made of another value.
    return an_object(from_json(data, hook if data and b"__type__" in data else None)) if data else {}


def place_name(topic: str, partition: int, offset: int) -> str:
    """The name of a record in the header ``retry-of``."""
    return f"{topic}/{partition}/{offset}"


def created_at(created: object, place: Mapping[str, Any]) -> float | None:
    """The time when a task was first sent, epoch seconds; if its headers do not say it, the time of its record.

    Args:
        created: the value of its header :data:`CREATED`.
        place: the value of its header :data:`RECORD_HEADER`.
    """
    with suppress(ValueError):
        return moment(created)
    return place.get("timestamp")


def ordering_key_of(headers: Headers | None) -> str | None:
    """The ordering key of a record; None if it has none."""
    key = dict(headers or ()).get("ordering-key")
    return key.decode(errors="replace") if key else None


def ticket_of(
    headers: Headers | None, value: bytes | None, topic: str, partition: int, *, restarted: bool = False
) -> Ticket | None:
    """The ticket of a task's record; None if the record is in no lane.

    Args:
        value: the record's value.
        topic: the topic of the record.
        partition: the partition of the record.
        restarted: the task was begun before, and that run may have sent a retry.
    """
    named = dict(headers or ())
    key, unique, retry_of = named.get("ordering-key"), named.get("deduplication-id"), named.get("retry-of")
    if not (key or unique or retry_of or restarted or _REPEATED in named):
        return None
    try:
        task = facts(_object(named.get("headers")), value, (named.get("content-type") or b"").decode())
        number = whole(task.get("retries") or 0) + whole(task.get(CONTINUATIONS) or 0)
        run, name = Run(text(task.get("id")), number), text(task.get("task"))
        lane = Lane("key", key.decode(errors="replace")) if key else Lane("id", run.task_id)
    except ValueError:
        return None  # it is no task, and decoding it will say so
    return Ticket(lane, run, is_unique=bool(unique), origin=_origin(retry_of, topic, partition), task=name)


def _origin(retry_of: bytes | None, topic: str, partition: int) -> int | None:
    """The offset in ``retry-of``; None if that names no record of this partition."""
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
    """The headers of a dead letter: those of the dead record, then the reason, the error, and the record's place."""
    return [
        *(original or ()),
        ("dead-reason", reason.encode()),
        ("dead-error", error.encode(errors="backslashreplace")),
        ("dead-topic", topic.encode()),
        ("dead-partition", str(partition).encode()),
        ("dead-offset", str(offset).encode()),
    ]


#: The header of a dead letter that was cut: its value and long headers are left out, since its topic accepts no more.
CUT = "dead-cut"

#: The length up to which headers stay in a letter that is cut, bytes, and the number of headers that stay.
_SHORT, _MOST_SHORT = 1000, 100


def cut(letter: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    """The headers of a dead letter that is too large to be kept whole: of the dead record's headers only short ones."""
    *originals, reason, error, topic, partition, offset = letter
    short = [each for each in originals if len(each[0]) + len(each[1] or b"") <= _SHORT][:_MOST_SHORT]
    return [*short, reason, (error[0], (error[1] or b"")[:_SHORT]), topic, partition, offset, (CUT, b"1")]


def short_key(key: bytes | None) -> bytes | None:
    """The key of a dead letter that is too large to be kept whole."""
    return key if key is None or len(key) <= _SHORT else None


def expired(message: Message, timestamp: float, queue_ttl: float | None, now: float) -> bool:
    """True if a message has outlived its time to live.

    The time to live is the property ``expiration`` (milliseconds, a string, as in AMQP) or that of the queue, whichever is
    less. A Celery task with ``expires`` is never dropped here: the worker must see it to mark it as revoked.

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
    with suppress(KeyError, TypeError, ValueError, OverflowError):  # the message has no valid limit of its own
        limits.append(int(message.properties["expiration"]) / 1000)
    return bool(limits) and now >= timestamp + min(limits)
