"""Errors that a process goes on from: which of them are news, and how many there were of what."""

from __future__ import annotations

from typing import Any, NamedTuple

#: The same error is news again after this time, seconds.
AGAIN = 600.0

#: An error is shown to others with no more characters.
_LONGEST = 500


class Told:
    """The lines that were told of late: a fold, so that an error that comes again and again does not fill a log."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def is_news(self, line: str, now: float) -> bool:
        """Notes a line that is to be told. Returns False if it was told less than :data:`AGAIN` seconds ago."""
        self._at = {each: at for each, at in self._at.items() if now - at < AGAIN}
        return self._at.setdefault(line, now) == now


class Fault(NamedTuple):
    """The errors of one kind of work.

    Attributes:
        times: how many there were.
        last: the newest one, in words.
        at: when that was, epoch seconds.
    """

    times: int
    last: str
    at: float


class Faults:
    """The errors of a process, by what it was doing: a fold."""

    def __init__(self) -> None:
        self._of: dict[str, Fault] = {}

    def note(self, doing: str, error: str, now: float) -> None:
        """Counts an error that came at a time, epoch seconds."""
        before = self._of.get(doing)
        self._of[doing] = Fault(1 if before is None else before.times + 1, error[:_LONGEST], now)

    @property
    def total(self) -> int:
        """How many errors there were in all."""
        return sum(fault.times for fault in self._of.copy().values())

    def facts(self) -> dict[str, dict[str, Any]]:
        """The same as a JSON value."""
        return {doing: fault._asdict() for doing, fault in self._of.copy().items()}
