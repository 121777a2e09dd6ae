"""The judge finds what it is to find: a planted loss, a planted second run, a planted overlap."""

from __future__ import annotations

import pytest

from tests.integration.judge import Verdict, judge
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
