"""A short run of the simulation, and the planted faults that it must find."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tests.simulation import mutants as queues
from tests.simulation.beats import mutants as beats
from tests.simulation.beats.world import BeatPlan
from tests.simulation.plane import mutants as plane
from tests.simulation.plane.world import PlanePlan
from tests.simulation.search import simulate
from tests.simulation.world import Plan

#: The kinds of worlds: the plan, the option of ``./dev simulate``, so many worlds in so many tests, and the planted faults.
KINDS: dict[str, tuple[Any, str, int, int, ModuleType]] = {
    "queues": (Plan, "", 70, 10, queues),
    "control plane": (PlanePlan, "--plane ", 80, 40, plane),
    "beats": (BeatPlan, "--beats ", 12, 6, beats),
}


@pytest.mark.parametrize(
    ("kind", "first"), [(kind, first) for kind, (_, _, end, step, _) in KINDS.items() for first in range(0, end, step)]
)
def test_no_rule_is_broken_in_any_of_some_worlds(apart: Callable[..., Any], kind: str, first: int) -> None:
    plan, option, _, step, _ = KINDS[kind]
    for seed in range(first, first + step):
        result = apart(simulate, plan.of(seed))
        assert not result.broken, f"./dev simulate {option}--seed {seed}: {result.error}"


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_is_one_history(apart: Callable[..., Any], kind: str) -> None:
    plan = KINDS[kind][0].of(7)
    first, second = (apart(simulate, plan, keeps_history=True).history for _ in range(2))
    assert first
    assert first == second


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in KINDS[kind][-1].SEEDS])
def test_a_planted_fault_is_found(apart: Callable[..., Any], kind: str, name: str) -> None:
    mutants = KINDS[kind][-1]
    assert apart(mutants.find, name, [mutants.SEEDS[name]]) is not None
