"""Dead letters: what a record of a dead-letter topic says, and what becomes of it when it is replayed.

A letter is the record that died, with headers of why and whence. That letters were replayed is noted in the same
partition by a mark behind them, so that Kafka never deletes the mark before the letter.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from kafka_exec.core.message.envelope import CUT, decode, headers_as_json
from kafka_exec.core.record.fields import a_list, an_object, digits, from_json, optional, shown, whole
from kafka_exec.errors import NotReplayable, Undecodable

RawHeaders = list[tuple[str, bytes | None]]

#: The reason of a letter without its message: that was deleted before anybody had seen it.
LOST_RECORD = "lost-record"

#: The header of a replayed record: a JSON object that says which letter it was, and how often it was replayed by now.
REPLAYED_FROM = "replayed-from"

#: A letter that says it was replayed more often is somebody else's.
_MOST_REPLAYS = 10**9

# The header by which a mark is known.
_MARK = "dead-replayed"

_WHY = frozenset({"dead-reason", "dead-error", "dead-topic", "dead-partition", "dead-offset", CUT})

#: What a task's headers quote of its arguments, characters.
_LONGEST_REPR = 1024


class Address(NamedTuple):
    """Where a letter is in its topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """The inverse of ``str``; ValueError for other texts."""
        partition, offset = text.split(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise ValueError(text)
        return cls(int(partition), int(offset))


class Origin(NamedTuple):
    """Where the record was that died."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Letter:
    """A dead letter.

    Attributes:
        at: when it was written, epoch seconds.
        headers: all of them.
        replayed: whether a mark says so.
    """

    address: Address
    at: float
    key: bytes | None
    value: bytes | None
    headers: RawHeaders = field(default_factory=list)
    replayed: bool = False

    @cached_property
    def _by_name(self) -> Mapping[str, bytes | None]:
        return dict(self.headers)

    def _text(self, name: str) -> str:
        return as_text(self._by_name.get(name))

    @cached_property
    def _facts(self) -> Mapping[str, Any]:
        """What its message says of its task."""
        try:
            return decode(self.headers, self.value).task
        except Undecodable:
            return {}

    @property
    def reason(self) -> str:
        """Why it died, in a word; empty if it does not say."""
        return self._text("dead-reason")

    @property
    def error(self) -> str:
        """Why it died, in a sentence."""
        return self._text("dead-error")

    @property
    def task(self) -> str:
        """The task's name; empty for what is no task."""
        return _name(self._facts.get("task")) or self._text("task")

    @property
    def id(self) -> str:
        """The task's id; empty for what is no task."""
        return _name(self._facts.get("id")) or (as_text(self.key) if self.reason == LOST_RECORD else "")

    @property
    def origin(self) -> Origin | None:
        """Whence it came; None if it does not say."""
        try:
            place = digits(self._text("dead-partition")), digits(self._text("dead-offset"))
        except ValueError:
            return None
        topic = self._text("dead-topic")
        return Origin(topic, *place) if topic else None

    @property
    def replays(self) -> int:
        """How often its message was replayed before it died this time."""
        try:
            count: int = optional(an_object(from_json(self._by_name.get(REPLAYED_FROM))), "count", _count, 0)
        except ValueError:
            return 0
        return count

    @property
    def obstacle(self) -> str | None:
        """Why nobody can replay it; None if it can be."""
        if self.origin is None:
            return "it does not say where it came from"
        if self.reason == LOST_RECORD:
            return "its message was deleted: send the task again"
        if CUT in self._by_name:
            return "its message was too large to be kept whole: send it again"
        return None

    @property
    def body(self) -> Any:
        """What the value says as JSON.

        Raises:
            ValueError: it is no JSON.
        """
        if not self.value:
            raise ValueError("there is none")
        return from_json(self.value.decode())

    def as_json(self) -> dict[str, Any]:
        """What a list of letters says of it."""
        return {
            **self.address._asdict(),
            "at": self.at,
            **{"reason": self.reason, "error": self.error, "task": self.task, "id": self.id},
            "from": None if self.origin is None else self.origin._asdict(),
            **{"replays": self.replays, "replayed": self.replayed},
        }

    def headers_again(self, topic: str) -> RawHeaders:
        """The headers under which it is replayed: those of the record that died, and which letter of ``topic`` it is.

        Whoever replays a task wants it to run with all its retries, and a deduplicated one though it has ended.
        """
        left = {*_WHY, REPLAYED_FROM, "deduplication-id", "retry-of"}
        headers = self._headers_with(retries=0) if self._has_retries and self._is_of_protocol_2 else self.headers
        kept = [(name, value) for name, value in headers if name not in left]
        came = {"topic": topic, **self.address._asdict(), "count": self.replays + 1}
        return [*kept, (REPLAYED_FROM, json.dumps(came).encode())]

    @property
    def value_again(self) -> bytes | None:
        """The value with which it is replayed: that of protocol 1 has the number of retries."""
        if not self._has_retries or self._is_of_protocol_2:
            return self.value
        return json.dumps({**self._facts, "retries": 0}).encode()

    @property
    def _has_retries(self) -> bool:
        return bool(self._facts.get("retries"))

    @cached_property
    def _is_of_protocol_2(self) -> bool:
        return "task" in decode(self.headers, self.value).headers

    def with_arguments(self, args: list[Any] | None, kwargs: dict[str, Any] | None) -> Letter:
        """The same task with other arguments; None leaves them as they are.

        Raises:
            NotReplayable: it is no task of Celery's protocol 2 in JSON.
        """
        if args is None and kwargs is None:
            return self
        self._check_protocol_2()
        found = self.body
        found[:2] = [found[0] if args is None else args, found[1] if kwargs is None else kwargs]
        quoted = {"argsrepr": repr(tuple(found[0])), "kwargsrepr": repr(found[1])}
        return replace(
            self,
            value=json.dumps(found).encode(),
            headers=self._headers_with(**{name: text[:_LONGEST_REPR] for name, text in quoted.items()}),
        )

    def _headers_with(self, **changes: Any) -> RawHeaders:
        """Its headers, with changes in those of its message."""
        message = decode(self.headers, self.value)
        changed = headers_as_json({**message.headers, **changes})
        return [(name, changed if name == "headers" else value) for name, value in self.headers]

    def _check_protocol_2(self) -> None:
        what = f"letter {self.address} cannot get other arguments"
        try:
            message = decode(self.headers, self.value)
        except Undecodable as error:
            raise NotReplayable(f"{what}: {error}") from None
        if message.content_type != "application/json" or message.headers.get("compression"):
            kind = f"compressed {message.content_type}" if message.headers.get("compression") else message.content_type
            raise NotReplayable(f"{what}: its body is {kind}, only plain application/json can be changed")
        try:
            body = self.body
        except ValueError:
            body = None
        if not (
            message.headers.get("task")
            and isinstance(body, list)
            and [type(part) for part in body] == [list, dict, dict]
        ):
            raise NotReplayable(f"{what}: it is no task message of Celery's protocol 2")


def _name(value: Any) -> str:
    """What a message calls its task, for people; empty if it does not."""
    return value if isinstance(value, str) else "" if value is None else shown(value)


def _count(value: Any) -> int:
    return whole(value, most=_MOST_REPLAYS)


def as_text(data: bytes | None) -> str:
    """Bytes for people to read; what is no UTF-8 is shown as escapes."""
    return (data or b"").decode(errors="backslashreplace")


@dataclass(frozen=True)
class Order:
    """Which letters are to be replayed, and with which arguments.

    Attributes:
        addresses: these; empty: all.
        reason: only those that died of it.
        task: only those of this task name.
        again: also those that were replayed already.
        args: instead of the task's own.
        kwargs: instead of the task's own.
    """

    addresses: Collection[Address] = ()
    reason: str | None = None
    task: str | None = None
    again: bool = False
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None

    def matches(self, letter: Letter) -> bool:
        """Whether a letter is meant, be it replayed or not."""
        return (
            (not self.addresses or letter.address in self.addresses)
            and self.reason in (None, letter.reason)
            and self.task in (None, letter.task)
        )


def mark(offsets: Sequence[int]) -> tuple[bytes, RawHeaders]:
    """Value and headers of the mark that says that these letters of its partition were replayed."""
    return json.dumps(offsets).encode(), [(_MARK, b"1")]


def is_mark(headers: Iterable[tuple[str, bytes | None]] | None) -> bool:
    """Whether a record with these headers is a mark and no letter."""
    return any(name == _MARK for name, _ in headers or ())


class Marked:
    """The offsets of one partition that were replayed, from ``begin`` to ``end``: a bit for each."""

    def __init__(self, begin: int, end: int) -> None:
        self._begin = begin
        self._end = end
        self._bits = bytearray((end - begin + 7) // 8)

    def take(self, value: bytes | None) -> None:
        """Takes a mark's value."""
        try:
            offsets = [whole(offset) for offset in a_list(from_json(value))]
        except ValueError:
            return  # somebody else's
        for offset in offsets:
            if self._begin <= offset < self._end:
                self._bits[(offset - self._begin) // 8] |= 1 << (offset - self._begin) % 8

    def __contains__(self, offset: int) -> bool:
        place = offset - self._begin
        return bool(self._bits[place // 8] >> place % 8 & 1)
