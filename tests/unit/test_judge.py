"""The judge finds what it is to find: a planted loss, a planted second run, a planted overlap."""

from __future__ import annotations

import pytest

from tests.integration.judge import LaneVerdict, Verdict, judge, judge_lanes
from tests.integration.workers import Effect

KILLED = {1: 10.0}


def run(pid: int, begin: float, end: float | None = None) -> list[Effect]:
    effects = [Effect("begin", "t", "w", pid, begin)]
    return effects if end is None else [*effects, Effect("end", "t", "w", pid, end)]


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        (run(2, 1, 2), Verdict()),
        (run(1, 9) + run(2, 12, 13), Verdict(restarts=1)),
        (run(1, 9, 9.9) + run(2, 12, 13), Verdict(restarts=1)),  # killed before it had told its end
        ([], Verdict(lost=["t"])),
        (run(1, 9), Verdict(lost=["t"])),
        (run(1, 5, 6) + run(2, 12, 13), Verdict(again=["t"], restarts=1)),
        (run(2, 1, 2) + run(3, 12, 13), Verdict(again=["t"], restarts=1)),
        (run(2, 1, 20) + run(3, 12, 13), Verdict(overlaps=["t"], restarts=1)),
        (run(1, 1) + run(3, 9, 13), Verdict(overlaps=["t"], restarts=1)),
    ],
)
def test_verdict(effects: list[Effect], verdict: Verdict) -> None:
    assert judge(["t"], effects, KILLED) == verdict


def lane(told: str) -> list[Effect]:
    """Effects one after the other, from words like ``begin:a:2``: what was done, the task, the process."""
    words = [word.split(":") for word in told.split()]
    return [Effect(what, task, "w", int(pid), float(at)) for at, (what, task, pid) in enumerate(words, 8)]


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ("begin:a:2 end:a:2 begin:b:3 end:b:3", LaneVerdict()),
        ("begin:a:2 retry:a:2 begin:a:3 end:a:3 begin:b:2 end:b:2", LaneVerdict()),
        # Process 1 was killed at 10: what it ran begins again.
        ("begin:a:1 begin:x:2 end:x:2 begin:a:2 end:a:2 begin:b:2", LaneVerdict(lost=["b"])),
        ("begin:a:2 end:a:2", LaneVerdict(lost=["b"])),
        ("begin:b:2 end:b:2 begin:a:2 end:a:2", LaneVerdict(inversions=["b", "a"])),
        ("begin:a:2 retry:a:2 begin:b:3 end:b:3 begin:a:2 end:a:2", LaneVerdict(inversions=["b", "a"])),
        ("begin:a:2 begin:b:3 end:a:2 end:b:3", LaneVerdict(inversions=["b"], overlaps=["b"])),
        ("begin:a:2 end:a:2 begin:x:2 begin:a:3 end:a:3 begin:b:2 end:b:2", LaneVerdict(again=["a"])),
    ],
)
def test_verdict_of_a_lane(effects: str, verdict: LaneVerdict) -> None:
    assert judge_lanes([["a", "b"]], lane(effects), KILLED) == verdict


def test_what_is_known_to_be_told_counts_however_short_before_the_kill_it_ended() -> None:
    effects = lane("begin:a:1 end:a:1 begin:a:2 end:a:2")
    assert judge_lanes([["a"]], effects, KILLED) == LaneVerdict()
    assert judge_lanes([["a"]], effects, KILLED, told={"a"}) == LaneVerdict(again=["a"])
    assert judge_lanes([["a"]], effects, KILLED, told={"b"}) == LaneVerdict()
