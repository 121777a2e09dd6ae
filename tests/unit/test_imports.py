"""Entries of RedBeat and django-celery-beat as ours: what each becomes, and what cannot be had, with the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery

from kafka_exec.beat.rules import parsed
from kafka_exec.core.beat.imports import Imported, NotImported, of_django, of_redbeat

CRONTAB = {"minute": "0", "hour": "4, 5", "day_of_week": "mon", "day_of_month": "*", "month_of_year": "*/2"}


def redbeat(schedule: Any, **more: Any) -> Imported | NotImported:
    return of_redbeat("e", json.dumps({"name": "e", "task": "work", "schedule": schedule, **more}))


def django(**columns: Any) -> Imported | NotImported:
    given = {"name": "e", "task": "work", "args": "[]", "kwargs": "{}", "headers": "{}", "enabled": True, **columns}
    return of_django(given, "UTC")


@pytest.mark.parametrize(
    ("found", "schedule", "more"),
    [
        (redbeat({"__type__": "interval", "every": 30.0, "relative": False}), "every 30 s", {}),
        (redbeat({"__type__": "interval", "every": 0.25}), "every 0.25 s", {}),
        (redbeat({"__type__": "crontab", **CRONTAB}), "0 4,5 * */2 mon", {}),
        (
            redbeat({"__type__": "interval", "every": 60}, args=[1], kwargs={"a": 2}, options={"queue": "q"}),
            "every 60 s",
            {"args": [1], "kwargs": {"a": 2}, "options": {"queue": "q"}},
        ),
        (django(interval={"every": 2, "period": "hours"}), "every 7200 s", {}),
        (django(interval={"every": 500, "period": "microseconds"}), "every 0.0005 s", {}),
        (django(interval={"every": 1, "period": "days"}, start_time=5.5), "every 86400 s", {"start": 5.5}),
        (django(crontab={**CRONTAB, "timezone": "UTC"}), "0 4,5 * */2 mon", {}),
        (django(solar={"event": "sunset", "latitude": "52.50", "longitude": "13.4"}), "solar sunset 52.5 13.4", {}),
        (
            django(
                interval={"every": 1, "period": "minutes"},
                args="[1]",
                kwargs='{"a": 2}',
                queue="q",
                exchange="",
                routing_key=None,
                priority=0,
                headers='{"h": 1}',
                expire_seconds=9,
            ),
            "every 60 s",
            {
                "args": [1],
                "kwargs": {"a": 2},
                "options": {"queue": "q", "priority": 0, "expires": 9, "headers": {"h": 1}},
            },
        ),
    ],
)
def test_an_entry_becomes_one_of_ours(found: Imported | NotImported, schedule: str, more: dict[str, Any]) -> None:
    assert found == Imported("e", "work", schedule, more, False)
    assert parsed(schedule, Celery(set_as_current=False)) is not None


@pytest.mark.parametrize(
    "found",
    [
        redbeat({"__type__": "interval", "every": 30.0}, enabled=False),
        django(interval={"every": 30, "period": "seconds"}, enabled=False),
    ],
)
def test_one_that_is_switched_off_is_paused(found: Imported | NotImported) -> None:
    assert found == Imported("e", "work", "every 30 s", {}, True)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (redbeat({"__type__": "rrule", "freq": 1}), "its schedule is a rrule"),
        (redbeat({"__type__": "interval", "every": 5, "relative": True}), "relative to the clock"),
        (redbeat({"__type__": "interval", "every": "x"}), "its interval is 'x'"),
        (redbeat({"__type__": "interval", "every": 0}), "its interval is 0"),
        (redbeat(None), "no schedule"),
        (redbeat({"__type__": "interval", "every": 5}, task=None), "it has no task"),
        (redbeat({"__type__": "interval", "every": 5}, args=[{"a": [{"__type__": "datetime"}]}]), "have times"),
        (of_redbeat("e", b"\xff"), "its definition cannot be read as JSON"),
        (of_redbeat("e", "[]"), "its definition is no JSON object"),
        (django(clocked={"clocked_time": 1}), "it is to run once"),
        (django(interval={"every": 5, "period": "seconds"}, one_off=True), "it is to run once"),
        (django(interval={"every": 5, "period": "seconds"}, expires="2027-01-01"), "it ends at a time"),
        (django(crontab={**CRONTAB, "timezone": "Europe/Berlin"}), "time zone Europe/Berlin, the application in UTC"),
        (django(crontab={**CRONTAB, "timezone": "UTC"}, start_time=5.5), "a start and no interval"),
        (django(interval={"every": 5, "period": "seconds"}, args="[1"), "its args cannot be read as JSON"),
        (django(), "it has no schedule"),
    ],
)
def test_what_cannot_be_had_says_why(found: Imported | NotImported, reason: str) -> None:
    assert isinstance(found, NotImported)
    assert reason in found.reason
