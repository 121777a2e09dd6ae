"""Periodic entries of RedBeat and django-celery-beat, as entries of ours: what stands for what, and what does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

#: The fields of a crontab in the order in which our schedules have them.
_CRONTAB = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")

#: The units of django-celery-beat's intervals, in seconds.
_PERIODS = {"days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0, "microseconds": 1e-6}

#: The columns of django-celery-beat that are options of ``apply_async`` by the same name.
_OPTIONS = ("queue", "exchange", "routing_key", "priority")


class Imported(NamedTuple):
    """An entry as ours.

    Attributes:
        schedule: the text of its schedule.
        more: ``args``, ``kwargs``, ``options`` and ``start``, as far as it has them.
        paused: it is not fired until it is resumed.
    """

    name: str
    task: str
    schedule: str
    more: Mapping[str, Any]
    paused: bool


class NotImported(NamedTuple):
    """An entry that cannot be had, with the reason and what to do instead."""

    name: str
    reason: str


class _Unlike(Exception):
    """An entry has something that ours have not."""


def of_redbeat(name: str, definition: bytes | str) -> Imported | NotImported:
    """The entry of a RedBeat ``definition``: JSON in which an object with ``__type__`` stands for a value of Python."""

    def read() -> Imported:
        found = _object(definition, "definition")
        more = {key: found.get(key) for key in ("args", "kwargs", "options") if found.get(key)}
        if _has_python_values(more):
            raise _Unlike("its arguments or options have times: give them as text")
        schedule = _redbeat_schedule(found.get("schedule"))
        return Imported(name, _text(found.get("task"), "task"), schedule, more, found.get("enabled") is False)

    return _tried(name, read)


def _redbeat_schedule(given: Any) -> str:
    kind = given.get("__type__") if isinstance(given, Mapping) else None
    if kind == "interval":
        if given.get("relative"):
            raise _Unlike("its interval is relative to the clock: make a crontab of it")
        return _every(given.get("every"))
    if kind == "crontab":
        return _crontab(given)
    raise _Unlike(f"its schedule is a {kind}: make a crontab of it, or a class of your own" if kind else "no schedule")


def of_django(row: Mapping[str, Any], zone: str) -> Imported | NotImported:
    """The entry of a row of django-celery-beat.

    Args:
        row: the columns of ``PeriodicTask``; for ``interval``, ``crontab`` and ``solar`` the columns of that row, or None;
            ``start_time`` in epoch seconds.
        zone: the application's time zone. A crontab in another one would be due at other times.
    """
    name = str(row["name"])

    def read() -> Imported:
        if row.get("one_off") or row.get("clocked"):
            raise _Unlike("it is to run once: send the task with eta")
        if row.get("expires"):
            raise _Unlike("it ends at a time: import it and remove it then")
        more: dict[str, Any] = {key: _json(row.get(key), key) for key in ("args", "kwargs") if row.get(key)}
        options = {name: row[name] for name in _OPTIONS if row.get(name) not in (None, "")}
        if row.get("expire_seconds") is not None:
            options["expires"] = row["expire_seconds"]
        if headers := _json(row.get("headers") or "{}", "headers"):
            options["headers"] = headers
        if row.get("start_time") is not None:
            if not row.get("interval"):
                raise _Unlike("it has a start and no interval: add it when it is to begin")
            more["start"] = row["start_time"]
        schedule = _django_schedule(row, zone)
        given = {key: value for key, value in {**more, "options": options}.items() if value}
        return Imported(name, _text(row.get("task"), "task"), schedule, given, not row.get("enabled"))

    return _tried(name, read)


def _django_schedule(row: Mapping[str, Any], zone: str) -> str:
    if interval := row.get("interval"):
        return _every(interval["every"] * _PERIODS[interval["period"]])
    if crontab := row.get("crontab"):
        if crontab["timezone"] != zone:
            raise _Unlike(f"its crontab is in the time zone {crontab['timezone']}, the application in {zone}")
        return _crontab(crontab)
    if solar := row.get("solar"):
        return f"solar {solar['event']} {float(solar['latitude'])} {float(solar['longitude'])}"
    raise _Unlike("it has no schedule")


def _tried(name: str, read: Callable[[], Imported]) -> Imported | NotImported:
    try:
        return read()
    except _Unlike as error:
        return NotImported(name, str(error))


def _every(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)) or seconds <= 0:
        raise _Unlike(f"its interval is {seconds!r}")
    return f"every {seconds:.6f}".rstrip("0").rstrip(".") + " s"


def _crontab(fields: Mapping[str, Any]) -> str:
    return " ".join(str(fields.get(field, "*")).replace(" ", "") for field in _CRONTAB)


def _has_python_values(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "__type__" in value or any(map(_has_python_values, value.values()))
    return isinstance(value, list) and any(map(_has_python_values, value))


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise _Unlike(f"it has no {what}")
    return value


def _json(text: Any, what: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        raise _Unlike(f"its {what} cannot be read as JSON") from None


def _object(text: Any, what: str) -> Mapping[str, Any]:
    found = _json(text, what)
    if not isinstance(found, Mapping):
        raise _Unlike(f"its {what} is no JSON object")
    return found
