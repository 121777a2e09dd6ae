"""Celery's schedules as rules of the core: the arithmetic of calendars stays Celery's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

from celery.schedules import BaseSchedule, crontab, maybe_schedule, schedule, solar

from kafka_exec.core.schedule import Calendar, Grid, Rule
from kafka_exec.errors import ConfigurationError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EVERY = re.compile(r"(?:every\s+)?(\d+(?:\.\d+)?)\s*([smhd]?)", re.ASCII)

#: Within this time the hours of a crontab that has all of them are looked for in real time, not in local time.
_HOUR = timedelta(hours=1)


def rule_of(given: Any, start: float | None = None) -> Rule:
    """The rule of a Celery schedule.

    Args:
        given: ``crontab``, ``solar``, ``schedule`` or a class of the user's with ``remaining_estimate``.
        start: of an interval: a time at which it is due, epoch seconds.

    Raises:
        ConfigurationError: the schedule has no future, or ``start`` does not go with it.
    """
    if _is(given, crontab):
        rule: Rule = Calendar(lambda time: _after_in_crontab(given, time))
    elif _is(given, schedule) and not given.relative:
        return Grid(given.run_every.total_seconds(), start)
    elif isinstance(given, BaseSchedule):
        rule = Calendar(lambda time: _after_by_estimate(given, time))
    else:
        raise ConfigurationError(f"a schedule must be crontab, solar, an interval or seconds, not {given!r}")
    if start is not None:
        raise ConfigurationError(f"start goes with an interval, not with {given!r}")
    return rule


def _is(given: Any, kind: type) -> bool:
    """Whether a schedule is one of Celery's own of this kind. A class of the user's may compute other times."""
    return isinstance(given, kind) and type(given).remaining_estimate is kind.remaining_estimate  # type: ignore[attr-defined]


def _after_in_crontab(given: crontab, time: float) -> float:
    """The first time after one at which a crontab is due.

    When the clocks are set forward, what is due in the hour that is left out is due once, as long after its beginning as it
    would have been. When they are set back, what is due in the hour that comes twice is due in the first one, unless the
    crontab is due in every hour: then it goes on as ever.
    """
    zone: tzinfo = given.tz
    moment = datetime.fromtimestamp(time, timezone.utc)
    if len(given.hour) == 24:
        offset = timezone(moment.astimezone(zone).utcoffset() or timedelta())
        found = _next(given, moment.astimezone(offset), offset)
        if timedelta() < found - moment <= _HOUR:
            return found.timestamp()
    found = _next(given, moment.astimezone(zone), zone)
    if found.timestamp() <= time:
        found = found.replace(fold=1)
    return found.timestamp()


def _next(given: crontab, last: datetime, zone: tzinfo) -> datetime:
    with _clock(given, last):
        begin, delta, _ = given.remaining_delta(last, tz=zone)
    found: datetime = begin + delta
    return found


def _after_by_estimate(given: Any, time: float) -> float:
    last = datetime.fromtimestamp(time, timezone.utc)
    with _clock(given, last):
        left: timedelta = given.remaining_estimate(last)
    return time + left.total_seconds()


@contextmanager
def _clock(given: Any, now: datetime) -> Iterator[None]:
    """Has a schedule believe that it is this time. A copy would not do: a class of the user's may not know how."""
    before, given.nowfun = given.nowfun, lambda: now
    try:
        yield
    finally:
        given.nowfun = before


def text_of(given: Any) -> str:
    """A schedule for people, and for telling one definition from another: the same in every process."""
    if _is(given, crontab):
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        return "crontab " + " ".join(str(getattr(given, f"_orig_{field}")).replace(" ", "") for field in fields)
    if _is(given, solar):
        return f"solar {given.event} {given.lat} {given.lon}"
    if _is(given, schedule):
        relative = " relative" if given.relative else ""
        return f"every {given.run_every.total_seconds():g} s{relative}"
    return repr(given)


def parsed(expression: str, app: Any) -> Any:
    """The Celery schedule of a text: ``30``, ``every 5 m``, ``0 4 * * mon``, ``solar sunset 52.5 13.4``.

    Raises:
        ConfigurationError: it is none of these.
    """
    words = expression.split()
    try:
        if found := _EVERY.fullmatch(expression.strip()):
            return maybe_schedule(float(found[1]) * _UNITS[found[2] or "s"], app=app)
        if words[:1] == ["solar"]:
            event, lat, lon = words[1:]
            return solar(event, float(lat), float(lon), app=app)
        if words[:1] == ["crontab"]:
            words = words[1:]
        minute, hour, day_of_month, month_of_year, day_of_week = words
        return crontab(minute, hour, day_of_week, day_of_month, month_of_year, app=app)
    except Exception as error:
        raise ConfigurationError(
            f"{expression!r} is no schedule ({error}): say seconds, 'every 5 m', five fields of a crontab, or "
            "'solar EVENT LATITUDE LONGITUDE'"
        ) from None
