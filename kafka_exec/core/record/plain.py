"""Anything as a JSON value, and as a text that is not too long: what is told of a task must be writable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: Deeper nested values are told as text: readers in other languages have limits of their own.
DEEPEST = 100

#: Larger whole numbers are told as text: Python itself refuses to read those of some thousand digits.
_LARGEST = 10**300

#: A value that is told as text has no more characters.
_LONGEST = 10_000


def plain(value: Any) -> Any:
    """A JSON value of anything; what JSON does not know is told as Python shows it."""
    return _plain(value, ())


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int) and -_LARGEST < value < _LARGEST:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if len(above) < DEEPEST and id(value) not in above:
        if isinstance(value, (list, tuple)):
            return [_plain(item, (*above, id(value))) for item in value]
        if isinstance(value, Mapping):
            return {_name(key): _plain(item, (*above, id(value))) for key, item in value.items()}
    return shown(value)


def _name(key: Any) -> str:
    return key if isinstance(key, str) else shown(key)


def is_deep(value: Any) -> bool:
    """Tells whether a JSON value is nested more deeply than is told."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for each in level
            if isinstance(each, (list, dict))
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def shown(value: Any, longest: int = _LONGEST) -> str:
    """A value as Python shows it, also where it cannot."""
    try:
        return cut(repr(value), longest)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def said(error: BaseException) -> str:
    """An error in words, also one that has none."""
    try:
        return cut(f"{type(error).__name__}: {error}", _LONGEST)
    except Exception:
        return type(error).__name__


def cut(text: str, longest: int) -> str:
    """The beginning of a text that is too long, and how long it was."""
    return text if len(text) <= longest else f"{text[:longest]}… (cut, it had {len(text)} characters)"


def cut_middle(text: str, longest: int) -> str:
    """Beginning and end of a text that is too long: of a traceback, where it began and what was raised."""
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end]}\n… (cut, it had {len(text)} characters)\n{text[-end:]}"
