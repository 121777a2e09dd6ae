"""Warnings that a process gives only once."""

from __future__ import annotations

import logging
from collections.abc import Iterable

logger = logging.getLogger("kafka_exec")

#: The number of texts that are remembered. If there are more, all are forgotten, and may be given again.
_MOST = 10_000

_said: set[str] = set()


def warn_once(text: str) -> None:
    """Logs a warning, unless this process has logged the same one before."""
    if unsaid([text]):
        logger.warning("%s", text)


def unsaid(texts: Iterable[str]) -> list[str]:
    """The texts that are new in this process. They count as said from now on."""
    new = [text for text in texts if text not in _said]
    if len(_said) + len(new) > _MOST:
        _said.clear()
    _said.update(new)
    return new


def is_said(text: str) -> bool:
    """True if the text was said before in this process."""
    return text in _said


def forget() -> None:
    """Forgets all texts, so that each of them is said again."""
    _said.clear()
