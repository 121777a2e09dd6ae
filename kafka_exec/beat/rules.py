"""Rules of the core made from Celery's schedules: Celery computes the times of calendars."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

from celery.schedules import BaseSchedule, crontab, maybe_schedule, schedule, solar

from kafka_exec.core.beat.schedule import Asked, Calendar, Grid, Rule
from kafka_exec.errors import ConfigurationError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EVERY = re.compile(r"(?:every\s+)?(\d+(?:\.\d+)?)\s*([smhd]?)", re.ASCII)

#: The next time of a crontab that is due in every hour is looked for in real time within this span, then in local time.
_HOUR = timedelta(hours=1)


def rule_of(given: Any, start: float | None = None) -> Rule:
    """The rule of a Celery schedule.

    Args:
        given: ``crontab``, ``solar``, ``schedule`` or a class of the user's with ``remaining_estimate`` or ``is_due``. The
            times follow from ``remaining_estimate``; ``is_due`` is asked if a more derived class has it.
        start: a time at which an interval is due, epoch seconds.

    Raises:
        ConfigurationError: the schedule has no future, or ``start`` does not go with it.
    """
    if _must_be_asked(given):
        rule: Rule = Asked(lambda last, now: _is_due(given, last, now))
    elif _is(given, crontab):
        rule = Calendar(lambda time: _after_in_crontab(given, time))
    elif _is(given, schedule) and not given.relative:
        return Grid(given.run_every.total_seconds(), start)
    elif _defines(type(given), "remaining_estimate") is not None:
        rule = Calendar(lambda time: _after_by_estimate(given, time))
    else:
        raise ConfigurationError(
            f"a schedule must be crontab, solar, an interval, seconds, or of a class that has is_due or remaining_estimate "
            f"of its own, not {given!r}"
        )
    if start is not None:
        raise ConfigurationError(f"start goes with an interval, not with {given!r}")
    return rule


def _is(given: Any, kind: type) -> bool:
    """True if a schedule is Celery's own of this kind. A class of the user's may compute other times."""
    return isinstance(given, kind) and type(given).remaining_estimate is kind.remaining_estimate  # type: ignore[attr-defined]


def _must_be_asked(given: Any) -> bool:
    """True if only ``is_due`` says when a schedule is due: its class has it, and no ``remaining_estimate`` as derived."""
    asked, estimated = _defines(type(given), "is_due"), _defines(type(given), "remaining_estimate")
    return asked is not None and (estimated is None or asked < estimated)


def _defines(kind: type, name: str) -> int | None:
    """The position of the first class that has a method, in the order of the bases; None: none, or only Celery's base."""
    bases = (number for number, each in enumerate(kind.__mro__) if name in vars(each) and each is not BaseSchedule)
    return next(bases, None)


def _is_due(given: Any, last: float, now: float) -> tuple[bool, float]:
    """The answer of a schedule's ``is_due``, asked as Celery's beat asks it."""
    with _clock(given, datetime.fromtimestamp(now, timezone.utc)):
        yes, wait = given.is_due(datetime.fromtimestamp(last, timezone.utc))
    return yes, wait


def _after_in_crontab(given: crontab, time: float) -> float:
    """The first time after ``time`` at which a crontab is due, epoch seconds.

    When the clocks are set forward, a time in the hour that is left out is due once, as long after that hour's beginning as
    it would have been. When they are set back, a time in the hour that comes twice is due in the first one only, unless the
    crontab is due in every hour: then it is due in both.
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
    """Sets a schedule's clock to a time. The schedule is not copied, for a class of the user's may not support that."""
    before, given.nowfun = getattr(given, "nowfun", None), lambda: now
    try:
        yield
    finally:
        given.nowfun = before


def text_of(given: Any) -> str:
    """The text of a schedule, for people and for comparing definitions: it is the same in every process."""
    if _must_be_asked(given):
        return _text_of_own(given)
    if _is(given, crontab):
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        return "crontab " + " ".join(str(getattr(given, f"_orig_{field}")).replace(" ", "") for field in fields)
    if _is(given, solar):
        return f"solar {given.event} {given.lat} {given.lon}"
    if _is(given, schedule):
        relative = " relative" if given.relative else ""
        return f"every {given.run_every.total_seconds():g} s{relative}"
    return _text_of_own(given)


def _text_of_own(given: Any) -> str:
    """The text of a schedule of a class of the user's, without addresses of objects."""
    name = type(given).__qualname__
    if any("__repr__" in vars(each) for each in type(given).__mro__[:-1]):
        return f"{name} {given!r}"
    told = {key: value for key, value in vars(given).items() if isinstance(value, (str, int, float))}
    return f"{name} {told}" if told else name


def parsed(expression: str, app: Any) -> Any:
    """The Celery schedule of a text: ``30``, ``every 5 m``, ``0 4 * * mon``, ``solar sunset 52.5 13.4``.

    Raises:
        ConfigurationError: the text is no such schedule.
    """
    words = expression.split()
    try:
        if found := _EVERY.fullmatch(expression.strip()):
            return maybe_schedule(float(found[1]) * _UNITS[found[2] or "s"], app=app)
        if words[:1] == ["solar"]:
            return _solar(words[1:], app)
        return _crontab(words[1:] if words[:1] == ["crontab"] else words, app)
    except OverflowError:
        reason = "since nobody can wait for so long"
    except _Nonsense as nonsense:
        reason = str(nonsense)
    raise ConfigurationError(
        f"{expression!r} is no schedule, {reason}: say seconds as 30, 'every 5 m', five fields of a crontab as "
        "'0 4 * * mon', or 'solar sunset 52.5 13.4'"
    )


class _Nonsense(Exception):
    """An error that says why a text is no schedule."""


def _solar(words: list[str], app: Any) -> solar:
    try:
        event, (lat, lon) = words[0], map(float, words[1:])
    except (IndexError, ValueError):
        raise _Nonsense("since 'solar' needs the name of an event, a latitude and a longitude") from None
    try:
        return solar(event, lat, lon, app=app)
    except Exception as error:  # Celery says what is wrong, or that a library is missing
        raise _Nonsense(f"since {str(error).rstrip('.')}") from None


#: The fields of a crontab, in their order in a text.
_FIELDS = {
    "minute": "minute",
    "hour": "hour",
    "day_of_month": "day of the month",
    "month_of_year": "month",
    "day_of_week": "day of the week",
}


def _crontab(words: list[str], app: Any) -> crontab:
    if len(words) != len(_FIELDS):
        raise _Nonsense(f"since it is no interval, and a crontab has five fields, not {len(words)}")
    for (field, name), word in zip(_FIELDS.items(), words, strict=True):
        try:
            crontab(**{field: word})
        except Exception:  # Celery's parser of fields raises errors of many types
            raise _Nonsense(f"since {word!r} is no {name} of a crontab") from None
    return crontab(**dict(zip(_FIELDS, words, strict=True)), app=app)
