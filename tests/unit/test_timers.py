"""Timers: each time is due once, in order, whichever way they are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.control.timers import Timers

TIMES = st.floats(0, 5e5) | st.sampled_from([0.0, 3599.9, 3600.0, 7200.0, 1e9])


@given(st.lists(st.tuples(st.sampled_from(["set", "due", "keep"]), st.sampled_from("abcdef"), TIMES), max_size=60))
def test_each_item_is_due_once_at_its_present_time(steps: list[tuple[str, str, float]]) -> None:
    """An item has one time; a dumb dictionary says what is due."""
    times: dict[str, float] = {}
    timers = Timers(lambda name: [times[name]] if name in times else [])
    now = 0.0
    for step, name, at in steps:
        if step == "set":
            times[name] = now + at
            timers.set(now + at, name)
        elif step == "keep":
            timers.keep(list(times))
            assert len(timers) == len(times)
        else:
            assert times == {} or (timers.next is not None and timers.next <= min(times.values()))
            now += at
            told = [each for due, each in timers.due(now) if times.get(each) == due and times.pop(each) == due]
            wanted = {each for each, due in times.items() if due <= now}
            assert not wanted, "nothing that is due is left out"
            assert len(told) == len(set(told))
    list(timers.due(1e12))
    assert (len(timers), timers.next) == (0, None)


def test_those_that_are_set_while_others_are_due_come_too() -> None:
    timers = Timers(lambda name: [float(name)])
    timers.set(1.0, "1")
    told = []
    for at, name in timers.due(9000.0):
        told.append(at)
        if name == "1":
            timers.set(5000.0, "5000")
            timers.keep(["5000"])
    assert told == [1.0, 5000.0]
