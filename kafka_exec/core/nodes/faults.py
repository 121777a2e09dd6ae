"""Errors from which a process goes on: the ones to log, and the number of each kind."""

from __future__ import annotations

from typing import Any, NamedTuple

#: The same error is logged again after so many seconds.
AGAIN = 600.0

#: The longest text of an error that other processes see, characters.
_LONGEST = 500


class Told:
    """The lines that were logged lately: a fold, so that an error that comes again and again does not fill the log."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def is_news(self, line: str, now: float) -> bool:
        """Notes a line to log. Returns False if it was logged less than :data:`AGAIN` seconds ago."""
        self._at = {each: at for each, at in self._at.items() if now - at < AGAIN}
        return self._at.setdefault(line, now) == now


class Fault(NamedTuple):
    """The errors of one kind of work.

    Attributes:
        times: the number of errors.
        last: the text of the latest error.
        at: the time of the latest error, epoch seconds.
    """

    times: int
    last: str
    at: float


class Faults:
    """The errors of a process, by the kind of work that it was doing: a fold."""

    def __init__(self) -> None:
        self._of: dict[str, Fault] = {}

    def note(self, doing: str, error: str, now: float) -> None:
        """Counts an error. ``now``: epoch seconds."""
        before = self._of.get(doing)
        self._of[doing] = Fault(1 if before is None else before.times + 1, error[:_LONGEST], now)

    @property
    def total(self) -> int:
        """The number of all errors."""
        return sum(fault.times for fault in self._of.copy().values())

    def facts(self) -> dict[str, dict[str, Any]]:
        """The errors as a JSON object."""
        return {doing: fault._asdict() for doing, fault in self._of.copy().items()}
