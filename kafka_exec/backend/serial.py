"""Values that one process serializes and another reads: each names its format, for the settings of both may differ."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from typing import Any

from celery.backends import base
from kombu.exceptions import DecodeError
from kombu.serialization import dumps, loads
from kombu.utils import json as kombu_json

from kafka_exec.core.record.plain import is_deep, plain
from kafka_exec.core.results.state_record import ABSENT, JSON_TYPE, Encoded, as_result

#: Celery before 5.7 compresses no results.
_decompressed = getattr(base, "decompress_payload", lambda data: data)

#: The beginning of a value's text that is not JSON. Content type, encoding, base64 and a name follow, between spaces.
_OTHER = "encoded: "

#: Marks a number that JSON lacks, such as NaN, among a task's arguments. Kombu marks other types in the same way.
_FLOAT = "float"


def encoded(value: Any, serializer: str, compression: str | None = None) -> Any:
    """A value in the form that a state record holds.

    Raises:
        EncodeError: the serializer cannot serialize the value.
    """
    content_type, content_encoding, data = dumps(value, serializer=serializer)
    if compression:
        return Encoded(content_type, content_encoding, base.compress_payload(data, compression))
    return as_result(content_type, content_encoding, data)


def decoded(stored: Any, accept: Collection[str] | None) -> Any:
    """A value of a state record, deserialized.

    Args:
        accept: the content types to read; None: all that Kombu takes for harmless.

    Raises:
        ContentDisallowed: the value is of another content type.
        DecodeError: the value cannot be read.
    """
    if stored is ABSENT:
        return None
    if not isinstance(stored, Encoded):
        stored = Encoded(JSON_TYPE, "utf-8", json.dumps(stored).encode())
    return loads(_decompressed(stored.data), stored.content_type, stored.content_encoding, accept=accept)


def as_text(stored: Any, name: str = "") -> str:
    """The text of a value that :func:`encoded` has made. ``name``: a part that can be read without decoding it."""
    if isinstance(stored, Encoded):
        data = base64.b64encode(stored.data).decode("ascii")
        return f"{_OTHER}{stored.content_type} {stored.content_encoding} {data} {name}"
    return json.dumps(stored, separators=(",", ":"))


def of_text(text: str) -> Any:
    """The inverse of :func:`as_text`.

    Raises:
        DecodeError: :func:`as_text` has not made the text.
    """
    try:
        if not text.startswith(_OTHER):
            return json.loads(text)
        content_type, content_encoding, data, _ = text[len(_OTHER) :].split(" ", 3)
        return Encoded(content_type, content_encoding, base64.b64decode(data, validate=True))
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"it was not stored by kafka_exec: {error}") from None


def name_of(text: str) -> str:
    """The name in the text of a value that is not JSON; empty for JSON."""
    return text.split(" ", 4)[4] if text.startswith(_OTHER) else ""


def arguments_as_json(value: Any) -> Any:
    """A task's arguments as a JSON value: as Kombu writes them, or as Python shows them if Kombu cannot write them."""
    if value is None:
        return None
    try:
        found = json.loads(kombu_json.dumps(value), parse_constant=lambda name: {"__type__": _FLOAT, "__value__": name})
    except Exception:
        return plain(value)
    return plain(value) if is_deep(found) else found


def arguments_of_json(value: Any) -> Any:
    """The inverse of :func:`arguments_as_json`, as far as Kombu can read them."""
    return value if value is None else json.loads(json.dumps(value), object_hook=_argument)


def _argument(found: dict[str, Any]) -> Any:
    try:
        if found.keys() == {"__type__", "__value__"} and found["__type__"] == _FLOAT:
            return float(found["__value__"])
        return kombu_json.object_hook(found)
    except Exception:
        return found
