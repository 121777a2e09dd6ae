"""What a process says once."""

from __future__ import annotations

import logging
from collections.abc import Iterable

logger = logging.getLogger("kafka_exec")

#: More than this is forgotten, and may be said again.
_MOST = 10_000

_said: set[str] = set()


def warn_once(text: str) -> None:
    """Logs a warning, unless this process has given the same one."""
    if unsaid([text]):
        logger.warning("%s", text)


def unsaid(texts: Iterable[str]) -> list[str]:
    """Those that come for the first time in this process; they count as said from now on."""
    new = [text for text in texts if text not in _said]
    if len(_said) + len(new) > _MOST:
        _said.clear()
    _said.update(new)
    return new


def is_said(text: str) -> bool:
    """Tells whether it came before."""
    return text in _said


def forget() -> None:
    """Has everything said again."""
    _said.clear()
