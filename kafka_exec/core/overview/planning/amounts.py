"""Amounts as texts for people, and as people write them: numbers, bytes, durations."""

from __future__ import annotations

import re

from kafka_exec.errors import ConfigurationError

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_SIZE = re.compile(rf"(\d+(?:\.\d+)?) *({'|'.join(_SIZES)})")
_DURATION = re.compile(rf"(\d+(?:\.\d+)?) *({'|'.join(_SECONDS)})")


def number_of(number: float) -> str:
    """The text of a number with three digits, or with all that it has before the point."""
    return f"{number:,.0f}" if number >= 100 or number == round(number) else f"{number:.3g}"


def size_of(number: float) -> str:
    """The text of a number of bytes, with two digits or three: ``890 B``, ``1.5 kB``, ``20 GB``."""
    step = 0
    while round(number) >= 1000 and step < len(_SIZES) - 1:
        number, step = number / 1000, step + 1
    return f"{number:.1f} {_SIZES[step]}" if step and number < 9.95 else f"{number:.0f} {_SIZES[step]}"


def duration_of(seconds: float) -> str:
    """The text of a duration, in the largest unit of which it has one: ``0.5 s``, ``2 h``, ``7 d``."""
    unit = next((unit for unit in ("d", "h", "min", "s") if seconds >= _SECONDS[unit]), "s")
    return f"{number_of(seconds / _SECONDS[unit])} {unit}"


def to_bytes(text: str) -> float:
    """The number of bytes in a text such as ``890 B`` or ``2kB``; a kB has 1,000.

    Raises:
        ConfigurationError: it is no size.
    """
    return _read(text, _SIZE, {unit: 1000.0**step for step, unit in enumerate(_SIZES)}, "size (890 B, 2 kB, 1.5 MB)")


def to_seconds(text: str) -> float:
    """The seconds in a text such as ``0.5s``, ``200 ms`` or ``7d``.

    Raises:
        ConfigurationError: it is no duration.
    """
    return _read(text, _DURATION, _SECONDS, "duration (200 ms, 0.5 s, 5 min, 2 h, 7 d)")


def _read(text: str, form: re.Pattern[str], units: dict[str, float], what: str) -> float:
    if (found := form.fullmatch(text.strip())) is None:
        raise ConfigurationError(f"{text!r} is no {what}")
    return float(found[1]) * units[found[2]]
