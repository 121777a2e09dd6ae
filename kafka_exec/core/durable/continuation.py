"""The continuation of a suspended task: its own message once more, with a header that says where its history is.

The message is kept in the page that the task has written when it was suspended. The control plane publishes it, in the
transaction that decides that the task continues.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from kafka_exec.core.message.envelope import CONTINUED, Headers
from kafka_exec.core.record.fields import a_list, an_object, from_json, optional, text, texts, whole
from kafka_exec.errors import Undecodable

#: The outcomes of a suspension, as its task learns them.
ANSWERED, TIMED_OUT, REFUSED, FAILED = "answered", "timed-out", "refused", "failed"

_HEADERS = "headers"

#: A continuation has headers of at most so many bytes, or no page in them.
_SMALL = 64 * 1024


class KeptMessage(NamedTuple):
    """The record of a message, as a page keeps it."""

    topic: str
    value: bytes | None
    key: str | bytes | None
    headers: Headers
    partition: int | None

    def as_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        key = self.key.encode() if isinstance(self.key, str) else self.key
        return {
            "topic": self.topic,
            "value": _to_text(self.value),
            "key": _to_text(key),
            "headers": [[name, _to_text(value)] for name, value in self.headers],
            "partition": self.partition,
        }

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> KeptMessage:
        """The inverse of :meth:`as_json`.

        Raises:
            Undecodable: :meth:`as_json` has not made the object.
        """
        try:
            return cls(
                text(found.get("topic")),
                _of_text(found.get("value")),
                _of_text(found.get("key")),
                [(text(name), _of_text(value)) for name, value in map(a_list, a_list(found.get("headers")))],
                optional(found, "partition", whole),
            )
        except ValueError as error:
            raise Undecodable("no-step", f"the message of a suspended task cannot be read: {error}") from None

    def continuing(self, continued: Continued) -> KeptMessage:
        """The record with which the task continues. It goes without the page if it would be large with it."""
        told = {CONTINUED: continued._asdict()}
        headers = [(name, _with(value, told) if name == _HEADERS else value) for name, value in self.headers]
        if continued.page is not None and sum(len(value or b"") for _, value in headers) > _SMALL:
            return self.continuing(continued._replace(page=None))
        return self._replace(headers=headers)


class Continued(NamedTuple):
    """The header of a continuation; of a retry it has only the place of the history.

    Attributes:
        at: the offset of the newest page, in the partition of the task's id.
        number: the number of the durable call that is answered; None: none is.
        outcome: :data:`ANSWERED`, :data:`TIMED_OUT`, :data:`REFUSED` or :data:`FAILED`.
        answers: the values by callback id, as texts.
        reason: why it is refused.
        page: the newest page itself, if it is small: its key and its text.
    """

    at: int
    number: int | None = None
    outcome: str = ANSWERED
    answers: Mapping[str, str] = {}
    reason: str = ""
    page: tuple[str, str] | None = None

    @classmethod
    def of_json(cls, found: Any) -> Continued:
        """The inverse of ``_asdict()``.

        Raises:
            Undecodable: it is no such object.
        """
        try:
            told = an_object(found)
            answers = {text(name): text(value) for name, value in an_object(told.get("answers")).items()}
            return cls(
                whole(told.get("at")),
                optional(told, "number", whole),
                text(told.get("outcome")),
                answers,
                text(told.get("reason")),
                optional(told, "page", _page),
            )
        except ValueError as error:
            raise Undecodable("no-step", f"the header {CONTINUED} cannot be read: {error}") from None


def _page(found: Any) -> tuple[str, str]:
    key, value = texts(found)
    return key, value


def _with(headers: bytes | None, more: Mapping[str, Any]) -> bytes:
    return json.dumps({**an_object(from_json(headers) or {}), **more}, separators=(",", ":")).encode()


def _to_text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")


def _of_text(value: Any) -> bytes | None:
    return None if value is None else base64.b64decode(text(value), validate=True)
