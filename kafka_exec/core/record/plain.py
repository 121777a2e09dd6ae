"""Any Python value as a JSON value, or as a text of limited length, so that the state of a task can always be written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: Values that are nested more deeply become texts: readers in other languages have limits of their own.
DEEPEST = 100

#: Larger whole numbers become texts: Python itself refuses to read numbers of some thousand digits.
_LARGEST = 10**300

#: The longest text that a value becomes, characters.
_LONGEST = 10_000


def plain(value: Any) -> Any:
    """The JSON value of any Python value; a part that JSON does not know becomes its ``repr``."""
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
    """True if a JSON value is nested more deeply than :data:`DEEPEST`."""
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
    """The ``repr`` of a value; a replacement text if ``repr`` raises an error."""
    try:
        return cut(repr(value), longest)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def said(error: BaseException) -> str:
    """The type and the text of an error; its type alone if the text cannot be made."""
    try:
        return cut(f"{type(error).__name__}: {error}", _LONGEST)
    except Exception:
        return type(error).__name__


def cut(text: str, longest: int) -> str:
    """The text; of one that is longer than ``longest`` the beginning, and its length."""
    return text if len(text) <= longest else f"{text[:longest]}… (cut, it had {len(text)} characters)"


def cut_middle(text: str, longest: int) -> str:
    """The text; of one that is longer than ``longest`` the beginning and the end: of a traceback, first call and error."""
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end]}\n… (cut, it had {len(text)} characters)\n{text[-end:]}"
