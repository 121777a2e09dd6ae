"""Times and ages as texts for people."""

from __future__ import annotations

from datetime import datetime

#: The units of an age, each with its seconds, the longest first.
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def time_of(at: float | None) -> str:
    """The text of a time, epoch seconds, in this machine's time zone."""
    return "" if at is None else datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")


def age_of(at: float | None, now: float) -> str:
    """The text of the time since ``at``, both epoch seconds, in the largest unit of which it has two: ``90 s``, ``2 h``."""
    if at is None:
        return ""
    age = max(0.0, now - at)
    name, seconds = next((unit for unit in _UNITS if age >= 2 * unit[1]), _UNITS[-1])
    return f"{age / seconds:.0f} {name}"


def when(at: float, now: float) -> str:
    """The text of a time with its distance from now, both epoch seconds."""
    distance = f"in {age_of(now, at)}" if at > now else f"{age_of(at, now)} ago"
    return f"{time_of(at)} ({distance})"
