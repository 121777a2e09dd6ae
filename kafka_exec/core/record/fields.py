"""Reading what anybody may have written: JSON, and fields of it that must be of a type and within bounds.

A record of a log may hold anything. Whatever these functions are given, they return a value of the promised kind or raise
ValueError, and nothing else: no other error reaches a loop that reads records.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

#: Kafka counts with 64 bits: offsets, times, attempts.
MOST = 2**63 - 1

#: Kafka numbers partitions with 32 bits.
MOST_PARTITIONS = 2**31 - 1

#: The first and the last second that a calendar has, epoch seconds: from year 1 to 9999.
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0

#: Of what is refused, so much is shown, characters.
_SHOWN = 80


def from_json(data: bytes | str | None, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The value of a JSON text; None for no data. ``hook``: as the ``object_hook`` of :func:`json.loads`."""
    try:
        return json.loads(data, object_hook=hook) if data else None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def an_object(value: Any) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is expected, not {type(value).__name__}")
    return value


def a_list(value: Any) -> list[Any]:
    """A JSON list."""
    if not isinstance(value, list):
        raise ValueError(f"a list is expected, not {shown(value)}")
    return value


def text(value: Any) -> str:
    """A text that can be written as UTF-8: without lone surrogates."""
    if not isinstance(value, str) or not is_unicode(value):
        raise ValueError(f"a text is expected, not {shown(value)}")
    return value


def is_unicode(value: str) -> bool:
    """Tells whether a text can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(map(text, a_list(value)))


def whole(value: Any, least: int = 0, most: int = MOST) -> int:
    """A whole number between two bounds."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"a whole number from {least} to {most} is expected, not {shown(value)}")
    return value


def number(value: Any) -> float:
    """A number that is finite, and of no more than 64 bits if it is whole."""
    if type(value) is int and -MOST <= value <= MOST:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    raise ValueError(f"a number is expected, not {shown(value)}")


def moment(value: Any) -> float:
    """A time, epoch seconds, that a calendar has."""
    if not _FIRST <= number(value) <= _LAST:
        raise ValueError(f"a time is expected, not {shown(value)}")
    return number(value)


def flag(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise ValueError(f"true or false is expected, not {shown(value)}")
    return value


def digits(value: bytes | str | None) -> int:
    """The whole number, 0 or more, that a text of digits says."""
    found = value.decode() if isinstance(value, bytes) else value or ""
    if not (found.isascii() and found.isdigit() and len(found) <= len(str(MOST))):
        raise ValueError(f"a number in digits is expected, not {shown(found)}")
    return whole(int(found))


def optional(found: Mapping[str, Any], name: str, read: Callable[[Any], Any], default: Any = None) -> Any:
    """A field of an object that need not be there, or be null; then it is the default."""
    value = found.get(name)
    return default if value is None else read(value)


def shown(value: Any) -> str:
    """A value for people, not all of it if it is long; whatever it is."""
    try:
        return f"{value!r:.{_SHOWN}}"
    except Exception:
        return f"a {type(value).__name__}"


def id_text(value: Any) -> Any:
    """An id as it is written: of a UUID its text; all else as it is."""
    return str(value) if isinstance(value, UUID) else value
