"""Fields of JSON records that any program may have written: each must have a type, and be within bounds.

A record of a log may hold anything. These functions return a value of the promised kind, or raise ValueError. They raise
no other error for any value, so that no other error reaches a loop that reads records.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from kafka_exec.errors import ConfigurationError

#: The largest number in 64 bits, with which Kafka counts offsets and times.
MOST = 2**63 - 1

#: The largest number of a partition, for which Kafka has 32 bits.
MOST_PARTITIONS = 2**31 - 1

#: The first and the last second of the years 1 to 9999, epoch seconds.
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0

#: The longest id that a program may give, characters.
LONGEST_ID = 512

#: The longest part of a refused value that an error message shows, characters.
_SHOWN = 80


def from_json(data: bytes | str | None, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The value of a JSON text; None for no data. ``hook``: the ``object_hook`` of :func:`json.loads`."""
    try:
        return json.loads(data, object_hook=hook) if data else None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def an_object(value: Any) -> dict[str, Any]:
    """The value as a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is expected, not {type(value).__name__}")
    return value


def a_list(value: Any) -> list[Any]:
    """The value as a JSON list."""
    if not isinstance(value, list):
        raise ValueError(f"a list is expected, not {shown(value)}")
    return value


def text(value: Any) -> str:
    """The value as a text that can be written as UTF-8: one without lone surrogates."""
    if not isinstance(value, str) or not is_unicode(value):
        raise ValueError(f"a text is expected, not {shown(value)}")
    return value


def is_unicode(value: str) -> bool:
    """True if a text can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def texts(value: Any) -> tuple[str, ...]:
    """The value as a list of texts."""
    return tuple(map(text, a_list(value)))


def whole(value: Any, least: int = 0, most: int = MOST) -> int:
    """The value as a whole number from ``least`` to ``most``."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"a whole number from {least} to {most} is expected, not {shown(value)}")
    return value


def number(value: Any) -> float:
    """The value as a finite number; a whole one has at most 64 bits."""
    if type(value) is int and -MOST <= value <= MOST:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    raise ValueError(f"a number is expected, not {shown(value)}")


def moment(value: Any) -> float:
    """The value as a time of the years 1 to 9999, epoch seconds."""
    if not _FIRST <= number(value) <= _LAST:
        raise ValueError(f"a time is expected, not {shown(value)}")
    return number(value)


def flag(value: Any) -> bool:
    """The value as true or false."""
    if type(value) is not bool:
        raise ValueError(f"true or false is expected, not {shown(value)}")
    return value


def digits(value: bytes | str | None) -> int:
    """The whole number, 0 or more, in a text of digits."""
    found = value.decode() if isinstance(value, bytes) else value or ""
    if not (found.isascii() and found.isdigit() and len(found) <= len(str(MOST))):
        raise ValueError(f"a number in digits is expected, not {shown(found)}")
    return whole(int(found))


def optional(found: Mapping[str, Any], name: str, read: Callable[[Any], Any], default: Any = None) -> Any:
    """The value of an object's field; the default if the field is missing or null. ``read``: the reader of the field."""
    value = found.get(name)
    return default if value is None else read(value)


def shown(value: Any) -> str:
    """The value as a text for people: any value, and only the beginning of a long one."""
    try:
        return f"{value!r:.{_SHOWN}}"
    except Exception:
        return f"a {type(value).__name__}"


def an_id(value: Any, what: str) -> str:
    """The id that a program has given. ``what``: the words for it in the error.

    Raises:
        ConfigurationError: it is no text of 1 to :data:`LONGEST_ID` characters.
    """
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID or not is_unicode(value):
        raise ConfigurationError(f"{what} must be a text of 1 to {LONGEST_ID} characters, not {value!r:.60}")
    return value


def id_text(value: Any) -> Any:
    """An id as records hold it: the text of a UUID; any other value stays as it is."""
    return str(value) if isinstance(value, UUID) else value
