"""The tour of the example application: it has all features of README's table, and each is shown or said not to be."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from celery_app import tour
from celery_app.processes import Ending
from celery_app.tour.guide import SERVICES, Seen, Steps, Stop, take
from tests.snippets import README, section

#: No stop of these tests looks at the tour.
NO_TOUR: Any = None


def features() -> list[str]:
    table = section(README.read_text(encoding="utf-8"), "Features")
    return [name for name in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) if name not in ("feature", "---")]


def test_it_has_all_features_and_no_others() -> None:
    told = [*(stop.feature for stop in tour.STOPS), *(each.feature for each in tour.ELSEWHERE)]
    assert set(told) == set(features())
    assert {each.feature for each in tour.ELSEWHERE} & {stop.feature for stop in tour.STOPS} == set()


def test_its_stops_need_processes_that_there_are() -> None:
    assert {name for stop in tour.STOPS for name in stop.needs} == set(SERVICES)


def test_features_are_chosen_by_parts_of_their_names() -> None:
    assert tour.chosen(None) == tour.STOPS
    assert [stop.feature for stop in tour.chosen("Delays, dead")] == ["Delays", "Dead letters"]
    with pytest.raises(tour.DemoError, match="no feature of the tour is named magic"):
        tour.chosen("delays,magic")


def test_a_signal_ends_the_demonstration_but_not_while_a_process_starts() -> None:
    ending, known = Ending(), []

    def start() -> None:
        with ending.held():
            ending(signal.SIGINT, None)
            known.append("the process")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert known == ["the process"]
    with pytest.raises(SystemExit, match="143"):
        ending(signal.SIGTERM, None)


def stop(name: str, rounds: int, log: list[str]) -> Stop:
    """A stop that waits so many times."""

    def steps(_: Any) -> Steps:
        try:
            for number in range(rounds):
                log.append(f"{name} waits {number}")
                yield None
            yield Seen(name, "", "")
        finally:
            log.append(f"{name} is left")

    return Stop(name, steps)


def test_a_stop_that_waits_is_ended_after_all_others_have_begun() -> None:
    log: list[str] = []
    say: Callable[[str, Seen], None] = lambda feature, seen: log.append(f"{feature} is told")  # noqa: E731
    take(NO_TOUR, [stop("a", 2, log), stop("b", 0, log), stop("c", 1, log)], say)
    told = [line for line in log if "left" not in line]
    assert told == ["a waits 0", "b is told", "c waits 0", "a waits 1", "c is told", "a is told"]


def test_what_a_stop_has_begun_is_left_in_order_when_another_one_fails() -> None:
    log: list[str] = []

    def fails(_: Any) -> Steps:
        yield from ()
        raise tour.DemoError("it is not so")

    with pytest.raises(tour.DemoError, match="it is not so"):
        take(NO_TOUR, [stop("a", 1, log), Stop("b", fails)], lambda feature, seen: None)
    assert log == ["a waits 0", "a is left"]
