"""Dead letters: the records of a dead-letter topic, and the records that a replay makes of them.

A letter is a copy of the dead record, with headers that say why it died and where it was. A replay writes a mark into the
same partition, behind the letters, so that Kafka never deletes the mark before a letter.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from kafka_exec.core.message.envelope import CUT, REPEATED, decode, headers_as_json
from kafka_exec.core.record.fields import a_list, an_object, digits, from_json, optional, shown, whole
from kafka_exec.errors import NotReplayable, Undecodable

RawHeaders = list[tuple[str, bytes | None]]

#: The reason of a letter without a message: Kafka has deleted the message before an owner could read it.
LOST_RECORD = "lost-record"

#: The header of a replayed record: a JSON object with the place of its letter, and the number of replays by now.
REPLAYED_FROM = "replayed-from"

#: A larger number of replays cannot be ours, and is not believed.
_MOST_REPLAYS = 10**9

# The header of a mark.
_MARK = "dead-replayed"

_WHY = frozenset({"dead-reason", "dead-error", "dead-topic", "dead-partition", "dead-offset", CUT})

#: The longest text of a task's arguments in its headers, characters.
_LONGEST_REPR = 1024


class LetterAddress(NamedTuple):
    """The place of a letter in its topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> LetterAddress:
        """The address in a text that ``str`` has made.

        Raises:
            ValueError: the text has another form.
        """
        partition, offset = text.split(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise ValueError(text)
        return cls(int(partition), int(offset))


class Origin(NamedTuple):
    """The place of the record that died."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Letter:
    """A dead letter.

    Attributes:
        at: when the letter was written, epoch seconds.
        headers: all headers of its record.
        replayed: a mark says that it was replayed.
    """

    address: LetterAddress
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
        """The task's facts in its message; empty if the message cannot be read."""
        try:
            return decode(self.headers, self.value).task
        except Undecodable:
            return {}

    @property
    def reason(self) -> str:
        """The reason of its death, in a word; empty if the letter does not say."""
        return self._text("dead-reason")

    @property
    def error(self) -> str:
        """The reason of its death, in a sentence."""
        return self._text("dead-error")

    @property
    def task(self) -> str:
        """The task's name; empty if the message is no task."""
        return _name(self._facts.get("task")) or self._text("task")

    @property
    def id(self) -> str:
        """The task's id; empty if the message is no task."""
        return _name(self._facts.get("id")) or (as_text(self.key) if self.reason == LOST_RECORD else "")

    @property
    def origin(self) -> Origin | None:
        """The place of the record that died; None if the letter does not say."""
        try:
            place = digits(self._text("dead-partition")), digits(self._text("dead-offset"))
        except ValueError:
            return None
        topic = self._text("dead-topic")
        return Origin(topic, *place) if topic else None

    @property
    def replays(self) -> int:
        """The number of replays of its message before this death."""
        try:
            count: int = optional(an_object(from_json(self._by_name.get(REPLAYED_FROM))), "count", _count, 0)
        except ValueError:
            return 0
        return count

    @property
    def obstacle(self) -> str | None:
        """The reason that makes a replay impossible; None if it can be replayed."""
        if self.origin is None:
            return "it does not say where it came from"
        if self.reason == LOST_RECORD:
            return "its message was deleted: send the task again"
        if CUT in self._by_name:
            return "its message was too large to be kept whole: send it again"
        return None

    @property
    def body(self) -> Any:
        """The JSON value in the message's body.

        Raises:
            ValueError: the body is no JSON.
        """
        if not self.value:
            raise ValueError("there is none")
        return from_json(self.value.decode())

    def as_json(self) -> dict[str, Any]:
        """The letter as a JSON object, as lists show it: without body and headers."""
        return {
            **self.address._asdict(),
            "at": self.at,
            "reason": self.reason,
            "error": self.error,
            "task": self.task,
            "id": self.id,
            "from": None if self.origin is None else self.origin._asdict(),
            "replays": self.replays,
            "replayed": self.replayed,
        }

    def headers_again(self, topic: str) -> RawHeaders:
        """The headers of its replay: those of the dead record, and the letter's place in ``topic``.

        The replayed task has all its retries again. It has no deduplication id any more, and no sign that a repeated run has
        sent it, so that it runs although the first one has ended.
        """
        left = {*_WHY, REPLAYED_FROM, "deduplication-id", "retry-of", "repeated"}
        changes: dict[str, Any] = {"retries": 0} if self._has_retries and self._is_of_protocol_2 else {}
        if REPEATED in self._message_headers:
            changes[REPEATED] = None
        headers = self._headers_with(**changes) if changes else self.headers
        kept = [(name, value) for name, value in headers if name not in left]
        came = {"topic": topic, **self.address._asdict(), "count": self.replays + 1}
        return [*kept, (REPLAYED_FROM, json.dumps(came).encode())]

    @property
    def value_again(self) -> bytes | None:
        """The value of its replay. In protocol 1 the value holds the number of retries, which begins at 0 again."""
        if not self._has_retries or self._is_of_protocol_2:
            return self.value
        return json.dumps({**self._facts, "retries": 0}).encode()

    @property
    def _has_retries(self) -> bool:
        return bool(self._facts.get("retries"))

    @cached_property
    def _message_headers(self) -> Mapping[str, Any]:
        """The headers of its message; empty if the message cannot be read."""
        try:
            return decode(self.headers, self.value).headers
        except Undecodable:
            return {}

    @property
    def _is_of_protocol_2(self) -> bool:
        return "task" in self._message_headers

    def with_arguments(self, args: list[Any] | None, kwargs: dict[str, Any] | None) -> Letter:
        """The letter with other arguments of its task; None leaves them as they are.

        Raises:
            NotReplayable: the message is no task of Celery's protocol 2 in JSON.
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
        """Its headers, with changes in the headers of its message."""
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
    """A task's name or id as text for people; empty for None."""
    return value if isinstance(value, str) else "" if value is None else shown(value)


def _count(value: Any) -> int:
    return whole(value, most=_MOST_REPLAYS)


def as_text(data: bytes | None) -> str:
    """Bytes as text for people; bytes that are no UTF-8 become escapes."""
    return (data or b"").decode(errors="backslashreplace")


@dataclass(frozen=True)
class Order:
    """An order to replay letters: a selection of them, and other arguments.

    Attributes:
        addresses: the letters to replay; empty: all.
        reason: only letters with this reason.
        task: only letters of tasks with this name.
        again: also letters that were replayed already.
        args: the arguments in place of the task's own; None: its own.
        kwargs: the named arguments in place of the task's own; None: its own.
    """

    addresses: Collection[LetterAddress] = ()
    reason: str | None = None
    task: str | None = None
    again: bool = False
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None

    def matches(self, letter: Letter) -> bool:
        """True if the order selects a letter; :attr:`again` is not considered."""
        return (
            (not self.addresses or letter.address in self.addresses)
            and self.reason in (None, letter.reason)
            and self.task in (None, letter.task)
        )


def mark(offsets: Sequence[int]) -> tuple[bytes, RawHeaders]:
    """The value and the headers of a mark: these letters of its partition were replayed."""
    return json.dumps(offsets).encode(), [(_MARK, b"1")]


def is_mark(headers: Iterable[tuple[str, bytes | None]] | None) -> bool:
    """True if a record with these headers is a mark and no letter."""
    return any(name == _MARK for name, _ in headers or ())


class Marked:
    """The replayed offsets of one partition, from ``begin`` to ``end``: one bit for each offset."""

    def __init__(self, begin: int, end: int) -> None:
        self._begin = begin
        self._end = end
        self._bits = bytearray((end - begin + 7) // 8)

    def take(self, value: bytes | None) -> None:
        """Adds the offsets in a mark's value."""
        try:
            offsets = [whole(offset) for offset in a_list(from_json(value))]
        except ValueError:
            return  # another program has written it
        for offset in offsets:
            if self._begin <= offset < self._end:
                self._bits[(offset - self._begin) // 8] |= 1 << (offset - self._begin) % 8

    def __contains__(self, offset: int) -> bool:
        place = offset - self._begin
        return bool(self._bits[place // 8] >> place % 8 & 1)
