"""Schedules of the user's own that only answer whether it is time, as Celery's beat asks them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedstate, schedule, solar
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.beat.entries import PeriodicEntry
from kafka_exec.beat.rules import parsed, rule_of, text_of
from kafka_exec.core.beat.agenda import Agenda, Plan
from kafka_exec.core.beat.claimlog import Standing
from kafka_exec.core.beat.schedule import Asked, Calendar, CatchUp, Grid, Policy
from kafka_exec.errors import ConfigurationError

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc).timestamp()


@pytest.fixture
def app() -> Any:
    with Celery("asked", set_as_current=False) as made:
        yield made


class Always(BaseSchedule):  # type: ignore[misc]
    """Has nothing but an answer, which heeds no time."""

    def is_due(self, last_run_at: datetime) -> schedstate:
        return schedstate(True, 1.0)


class NotOnFridays(crontab):  # type: ignore[misc]
    """Celery's, narrowed as people do it. The first of May 2026 is a Friday."""

    def is_due(self, last_run_at: datetime) -> Any:
        if self.now().weekday() == 4:
            return schedstate(False, 60.0)
        return super().is_due(last_run_at)


class Estimated(schedule):  # type: ignore[misc]
    """Has both of its own: its times follow from the estimate, so that missed ones are known."""

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return timedelta(seconds=5)

    def is_due(self, last_run_at: datetime) -> Any:
        raise AssertionError


class Plain:
    """No class of Celery's at all: Celery's beat takes it."""

    def __init__(self, every: float) -> None:
        self.every = every

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        return False, self.every


def test_what_only_answers_is_asked_and_the_rest_has_its_times(app: Any) -> None:
    asked = [Always(app=app), NotOnFridays("*/5", app=app), Plain(3.0)]
    assert [type(rule_of(each)) for each in asked] == [Asked] * len(asked)
    assert isinstance(rule_of(Estimated(10.0, app=app)), Calendar)
    assert isinstance(rule_of(crontab(app=app)), Calendar)
    assert isinstance(rule_of(schedule(10.0, app=app)), Grid)
    pytest.importorskip("ephem")
    assert isinstance(rule_of(solar("sunset", 52.5, 13.4, app=app)), Calendar)


def test_what_neither_answers_nor_estimates_is_refused_by_the_name_of_its_entry(app: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"periodic entry e: .*is_due or remaining_estimate"):
        PeriodicEntry(name="e", task="work", schedule=BaseSchedule(app=app), app=app).plan("one")


def test_the_schedule_believes_that_it_is_the_time_of_the_log(app: Any) -> None:
    seen = []

    class Looking(BaseSchedule):  # type: ignore[misc]
        def is_due(self, last_run_at: datetime) -> schedstate:
            seen.append((last_run_at.timestamp(), self.now().timestamp()))
            return schedstate(False, 1.0)

    given = Looking(app=app)
    rule = rule_of(given)
    assert isinstance(rule, Asked)
    rule.answer(NOON, NOON + 77.0)
    assert seen == [(NOON, NOON + 77.0)]
    assert given.nowfun is None, "afterwards it has its own clock again"


def agenda(given: Any, complaints: list[str] | None = None) -> Agenda:
    def complain(entry: str, error: Exception) -> None:
        assert complaints is not None, error
        complaints.append(entry)

    made = Agenda(complain)
    made.plan({"e": Plan(rule_of(given), Policy(catch_up=CatchUp.ONE), "h")})
    made.acquired("e", Standing(slot=NOON))
    return made


def fire(made: Agenda, now: float) -> list[float]:
    """The slots of what is due at a time, which is done at once."""
    slots = []
    for proposal in made.due(now):
        slots += [firing.slot for firing in proposal.firings]
        made.done(proposal)
    return slots


def test_a_slot_is_the_moment_of_the_answer_and_the_next_question_comes_when_that_says(app: Any) -> None:
    made = agenda(Always(app=app))
    assert made.next_due == NOON + 1.0
    assert fire(made, NOON + 1.3) == [NOON + 1.3]
    assert fire(made, NOON + 1.4) == []
    assert made.next_due == NOON + 2.3
    # Nobody was there: it is fired once, and not for each second.
    assert fire(made, NOON + 900.0) == [NOON + 900.0]
    assert made.next_due == NOON + 901.0


def test_a_no_is_followed_by_another_question(app: Any) -> None:
    made = agenda(NotOnFridays("*/5", app=app))
    midnight = NOON + 12 * 3600
    assert made.next_due == NOON + 60.0
    assert fire(made, midnight - 30.0) == []
    assert made.next_due == midnight + 30.0
    assert fire(made, midnight + 30.0) == [midnight + 30.0]
    assert made.next_due == midnight + 300.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=50))
def test_it_is_fired_as_often_as_it_says_yes(answers: list[tuple[bool, float]]) -> None:
    left, yes = list(answers), []

    class Told(BaseSchedule):  # type: ignore[misc]
        def is_due(self, last_run_at: datetime) -> schedstate:
            if self.now() == last_run_at:
                return schedstate(False, 1.0)
            said, wait = left.pop(0) if left else (False, 300.0)
            if said:
                yes.append(self.now().timestamp())
            return schedstate(said, wait)

    made, fired, now = agenda(Told()), [], NOON
    while left:
        assert made.next_due is not None
        assert made.next_due > now - 1.0
        now = max(now, made.next_due)
        fired += fire(made, now)
    assert fired == pytest.approx(yes)
    assert len(set(fired)) == len(yes)


@pytest.mark.parametrize("answer", [None, 5, (True,), (True, None), (False, float("nan")), ("x", "soon")])
def test_an_answer_that_is_none_is_complained_of_and_asked_for_again(answer: Any) -> None:
    class Odd(BaseSchedule):  # type: ignore[misc]
        def is_due(self, last_run_at: datetime) -> Any:
            return answer

    complaints: list[str] = []
    made = agenda(Odd(), complaints)
    assert fire(made, NOON + 20.0) == []
    assert complaints
    assert set(complaints) == {"e"}
    assert made.next_due == NOON + 30.0


def test_an_answer_never_keeps_the_beat_busy_or_lets_it_sleep_for_ever() -> None:
    for wait, least, most in ((0.0, 0.01, 1.0), (-5.0, 0.01, 1.0), (1e300, 60.0, 600.0), (float("inf"), 60.0, 600.0)):
        assert least <= Asked(lambda last, now, wait=wait: (False, wait)).answer(NOON, NOON)[1] <= most  # type: ignore[misc]


def test_its_text_is_the_same_in_every_process_and_is_not_taken_for_another_schedule(app: Any) -> None:
    assert text_of(Always(app=app)) == text_of(Always(app=app)) == "Always"
    assert text_of(Plain(3.0)) != text_of(Plain(4.0))
    assert "0x" not in text_of(Plain(3.0))
    assert text_of(NotOnFridays("5", app=app)) != text_of(crontab("5", app=app))
    with pytest.raises(ConfigurationError):
        parsed(text_of(NotOnFridays("5", app=app)), app)


def test_what_nobody_can_know_is_not_promised(app: Any) -> None:
    told = {"name": "e", "task": "work", "schedule": Always(app=app), "app": app}
    for more in ({"catch_up": "all"}, {"catch_up": "skip"}, {"start": 5.0}, {"after_end": True, "on_node": True}):
        with pytest.raises(ConfigurationError, match="periodic entry e"):
            PeriodicEntry(**told, **more).plan("one")
    assert PeriodicEntry(**told, catch_up="one").plan("all").policy.catch_up is CatchUp.ONE
    assert PeriodicEntry(**told).plan("all")


@given(st.one_of(st.text(), st.text("0123456789*/-,. everysmhdolar")))
def test_a_text_that_is_no_schedule_is_refused_in_words(text: str) -> None:
    with Celery("asked", set_as_current=False) as app:
        try:
            parsed(text, app)
        except ConfigurationError as error:
            told = str(error).replace(repr(text), "")
        else:
            return
    assert [word for word in ("unpack", "literal", "convert", "NoneType", "expected", "object") if word in told] == []
