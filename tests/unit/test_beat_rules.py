"""Celery's schedules as rules: calendars in time zones whose clocks are set, expressions as text, and what entries say."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule, solar

from kafka_exec.beat.entries import SLOT, PeriodicEntry, entry_of
from kafka_exec.beat.rules import parsed, rule_of, text_of
from kafka_exec.core.beat.agenda import run_id
from kafka_exec.core.beat.claimant import Firing
from kafka_exec.core.beat.schedule import Calendar, CatchUp, Grid, Policy
from kafka_exec.errors import ConfigurationError

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its clocks are set by half an hour


@pytest.fixture
def app() -> Any:
    with Celery("rules", set_as_current=False) as made:
        yield made


def in_zone(zone: ZoneInfo) -> Any:
    return Celery("rules", set_as_current=False, timezone=zone.key)


def slots(rule: Any, begin: datetime, end: datetime, zone: ZoneInfo) -> list[str]:
    """All slots of a time, each with the offset of its zone."""
    found, last = [], begin.timestamp()
    while (last := rule.after(last)) <= end.timestamp():
        found.append(datetime.fromtimestamp(last, zone).strftime("%d %H:%M %z"))
    return found


#: A crontab, its zone, a time, and all slots within: the clocks are set in between.
DST = [
    pytest.param(
        "30 2 * * *", BERLIN, (2026, 3, 28), 3, ["28 02:30 +0100", "29 03:30 +0200", "30 02:30 +0200"], id="gap"
    ),
    pytest.param(
        "30 2 * * *", BERLIN, (2026, 10, 24), 3, ["24 02:30 +0200", "25 02:30 +0200", "26 02:30 +0100"], id="overlap"
    ),
    pytest.param(
        "0 3 * * *", BERLIN, (2026, 3, 28), 3, ["28 03:00 +0100", "29 03:00 +0200", "30 03:00 +0200"], id="gap's end"
    ),
    pytest.param("30 2 8 3 *", NEW_YORK, (2026, 3, 7), 3, ["08 03:30 -0400"], id="gap of a day of the month"),
    pytest.param("30 1 * * sun", NEW_YORK, (2026, 10, 31), 3, ["01 01:30 -0400"], id="overlap of a weekday"),
    pytest.param("15 2 * * *", LORD_HOWE, (2026, 10, 4), 1, ["04 02:45 +1100"], id="gap of half an hour"),
    pytest.param("45 1 * * *", LORD_HOWE, (2026, 4, 5), 1, ["05 01:45 +1100"], id="overlap of half an hour"),
]


@pytest.mark.parametrize(("expression", "zone", "day", "days", "expected"), DST)
def test_when_clocks_are_set_each_time_is_due_once(
    expression: str, zone: ZoneInfo, day: tuple[int, int, int], days: int, expected: list[str]
) -> None:
    begin = datetime(*day, tzinfo=zone)
    rule = rule_of(parsed(expression, in_zone(zone)))
    assert slots(rule, begin, begin + timedelta(days=days, hours=-1), zone) == expected


@pytest.mark.parametrize("day", [(2026, 3, 29), (2026, 10, 25)], ids=["gap", "overlap"])
@pytest.mark.parametrize(("expression", "step"), [("* * * * *", 60), ("*/15 * * * *", 900), ("7 * * * *", 3600)])
def test_what_is_due_in_every_hour_goes_on_when_clocks_are_set(
    day: tuple[int, int, int], expression: str, step: int
) -> None:
    rule = rule_of(parsed(expression, in_zone(BERLIN)))
    last = rule.after(datetime(*day, tzinfo=BERLIN).timestamp())
    for _ in range(6 * 3600 // step):
        last, before = rule.after(last), last
        assert last - before == step


def test_a_weekday_is_the_zones(app: Any) -> None:
    rule = rule_of(parsed("0 4 * * mon", app))
    begin = datetime(2026, 11, 20, tzinfo=timezone.utc)
    assert slots(rule, begin, begin + timedelta(days=12), ZoneInfo("UTC")) == ["23 04:00 +0000", "30 04:00 +0000"]


def test_the_29th_of_february_is_found(app: Any) -> None:
    rule = rule_of(parsed("0 0 29 2 *", app))
    begin = datetime(2026, 3, 1, tzinfo=timezone.utc)
    assert datetime.fromtimestamp(rule.after(begin.timestamp()), timezone.utc).year == 2028


def test_an_interval_is_a_grid(app: Any) -> None:
    assert rule_of(schedule(timedelta(minutes=5), app=app)) == Grid(300.0)
    assert rule_of(schedule(10, app=app), start=3.0) == Grid(10.0, 3.0)


def test_a_relative_interval_is_due_at_full_hours(app: Any) -> None:
    rule = rule_of(schedule(timedelta(hours=2), relative=True, app=app))
    begin = datetime(2026, 5, 1, 10, 17, tzinfo=timezone.utc)
    after = datetime.fromtimestamp(rule.after(begin.timestamp()), timezone.utc)
    assert (after.minute, after.second) == (0, 0)
    assert after > begin


class Daily(schedule):  # type: ignore[misc]
    """A schedule of the user's own."""

    def __init__(self, app: Any) -> None:
        super().__init__(3600.0, app=app)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return last_run_at.replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1) - self.now()


def test_a_schedule_of_the_users_own_is_asked_for_its_estimate(app: Any) -> None:
    rule = rule_of(Daily(app))
    assert isinstance(rule, Calendar)
    begin = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
    assert rule.after(begin.timestamp()) == (begin + timedelta(days=1)).timestamp()
    assert text_of(Daily(app)) != text_of(schedule(3600.0, app=app))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30", "every 30 s"),
        ("0.5", "every 0.5 s"),
        ("every 5 m", "every 300 s"),
        ("2h", "every 7200 s"),
        ("every 1 d", "every 86400 s"),
        ("0 4 * * mon", "crontab 0 4 * * mon"),
        ("crontab */5 0-6,22 1 * *", "crontab */5 0-6,22 1 * *"),
        ("solar sunset 52.5 13.4", "solar sunset 52.5 13.4"),
    ],
)
def test_a_text_is_a_schedule(app: Any, expression: str, expected: str) -> None:
    pytest.importorskip("ephem") if "solar" in expression else None
    found = parsed(expression, app)
    assert text_of(found) == expected
    assert text_of(parsed(expected, app)) == expected


@pytest.mark.parametrize("wrong", ["", "soon", "-5", "61 * * * *", "* * *", "every 5 weeks", "solar noon", "5 5"])
def test_what_is_no_schedule_is_refused(app: Any, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="is no schedule"):
        parsed(wrong, app)


# -- entries -----------------------------------------------------------------------------------------------------------


def entry(app: Any, **told: Any) -> PeriodicEntry:
    return PeriodicEntry(**{"name": "e", "task": "work", "schedule": 10.0, "app": app, **told})


def test_what_ours_say_may_stand_beside_celerys_or_among_the_options(app: Any) -> None:
    beside = entry(app, catch_up="all", max_duration=5, options={"queue": "q"})
    among = entry(app, options={"queue": "q", "catch_up": "all", "max_duration": 5})
    assert beside.options == among.options == {"queue": "q"}
    assert beside.plan("one") == among.plan("one")
    assert beside.plan("one").policy == Policy(CatchUp.ALL, max_duration=5)


def test_an_entry_is_pickled_compared_and_updated_with_all_that_it_says(app: Any) -> None:
    made = entry(app, catch_up="all", options={"queue": "q", "labels": ["eu"]})
    pickled = pickle.loads(pickle.dumps(made))
    assert (pickled.options, pickled.ours) == ({"queue": "q"}, {"labels": ["eu"], "catch_up": "all"})
    other = entry(app, catch_up="skip", options={"queue": "q"})
    assert pickled == made != other
    pickled.update(other)
    assert pickled == other != made


def test_a_fired_entrys_schedule_stays_in_the_zone_of_its_application() -> None:
    zoned = in_zone(BERLIN)
    made = entry(zoned, schedule=crontab(hour=2))
    made.fired(Firing(0.0, "run"), made.plan("one").policy, 0)
    assert made.schedule.app is zoned


def test_a_fired_entrys_task_says_its_slot_and_waits_for_the_run_before(app: Any) -> None:
    made = entry(app, max_duration=5, options={"headers": {"mine": 1}, "queue": "q"})
    fired = made.fired(Firing(50.0, run_id("e", 50.0)), made.plan("one").policy, 3)
    assert fired.options == {
        "queue": "q",
        "headers": {"mine": 1, SLOT: 50.0},
        "task_id": run_id("e", 50.0),
        "ordering_key": "beat e",
        "time_limit": 5,
        "retry": False,
    }
    assert made.options == {"headers": {"mine": 1}, "queue": "q"}


def test_a_run_on_its_node_knows_its_slot_and_its_fencing_token(app: Any) -> None:
    made = entry(app, on_node=True, max_duration=5, args=(1,), kwargs={"a": 2}, options={"headers": {"mine": 1}})
    run = made.run(Firing(50.0, "id"), made.plan("one").policy, 7, "node")
    assert (run.task, run.args, run.kwargs) == ("work", (1,), {"a": 2})
    known = ("id", "slot", "fence", "timelimit", "hostname", "mine", "retries")
    assert [run.request[name] for name in known] == ["id", 50.0, 7, (None, 5), "node", 1, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"task": "other"},
        {"schedule": 11.0},
        {"args": (1,)},
        {"kwargs": {"a": 1}},
        {"options": {"queue": "q"}},
        {"catch_up": "all"},
        {"start": 5.0},
        {"labels": ["gpu"]},
        {"on_node": True},
    ],
)
def test_every_change_is_another_definition(app: Any, change: dict[str, Any]) -> None:
    assert entry(app, **change).plan("one").definition != entry(app).plan("one").definition
    assert entry(app, **change).plan("one").definition == entry(app, **change).plan("one").definition


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_running": 0},
        {"start": "soon"},
        {"start": datetime(2026, 1, 1)},
        {"schedule": 0},
        {"schedule": -5},
        {"start": 5.0, "schedule": crontab()},
        {"on_node": True, "options": {"queue": "q"}},
        {"on_node": True, "after_end": True, "schedule": crontab()},
        {"on_node": True, "after_end": True, "start": 5.0},
    ],
)
def test_a_wrong_entry_is_refused_by_its_name(app: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="periodic entry e: "):
        entry(app, **wrong).plan("one")


def test_a_start_may_be_a_time_with_its_zone(app: Any) -> None:
    start: Callable[[Any], Any] = lambda given: entry(app, start=given).plan("one").rule  # noqa: E731
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert start(moment) == start(moment.isoformat()) == start(moment.timestamp()) == Grid(10.0, moment.timestamp())


def test_an_added_entry_is_made_of_what_is_stored(app: Any) -> None:
    made = entry_of("e", {"task": "work", "schedule": "*/5 * * * *", "args": [1], "catch_up": "skip"}, app)
    assert (made.name, made.task, made.args, text_of(made.schedule)) == ("e", "work", [1], "crontab */5 * * * *")


@pytest.mark.parametrize(
    "wrong", [{}, {"task": "work"}, {"schedule": "5"}, {"task": "work", "schedule": "5", "tsak": 1}]
)
def test_what_is_stored_wrongly_is_refused(app: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="periodic entry e"):
        entry_of("e", wrong, app)


def test_sunset_is_once_a_day(app: Any) -> None:
    pytest.importorskip("ephem")
    rule = rule_of(solar("sunset", 52.5, 13.4, app=app))
    begin = datetime(2026, 5, 1, tzinfo=timezone.utc)
    found = slots(rule, begin, begin + timedelta(days=3), BERLIN)
    assert [text.partition(":")[0] for text in found] == ["01 20", "02 20", "03 20"]
