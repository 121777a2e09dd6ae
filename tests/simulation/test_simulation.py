"""A short run of the simulation, and the planted faults that it must find."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.beats import mutants as beats
from tests.simulation.beats.world import BeatPlan
from tests.simulation.mutants import SEEDS, find
from tests.simulation.plane import mutants as plane
from tests.simulation.plane.world import PlanePlan
from tests.simulation.search import simulate
from tests.simulation.world import Plan


@pytest.mark.parametrize("first", range(0, 70, 10))
def test_no_rule_is_broken_in_any_of_ten_worlds(first: int) -> None:
    for seed in range(first, first + 10):
        result = simulate(Plan.of(seed))
        assert not result.broken, f"./dev simulate --seed {seed}: {result.error}"


@pytest.mark.parametrize(
    "plan", [Plan.of(7), PlanePlan.of(7), BeatPlan.of(7)], ids=["queues", "control plane", "beats"]
)
def test_one_seed_is_one_history(plan: Any) -> None:
    first, second = (simulate(plan, keeps_history=True).history for _ in range(2))
    assert first
    assert first == second


@pytest.mark.parametrize("name", SEEDS)
def test_a_planted_fault_is_found(name: str) -> None:
    assert find(name, [SEEDS[name]]) is not None


@pytest.mark.parametrize("first", range(0, 80, 40))
def test_no_rule_of_the_control_plane_is_broken_in_any_of_forty_worlds(first: int) -> None:
    for seed in range(first, first + 40):
        result = simulate(PlanePlan.of(seed))
        assert not result.broken, f"./dev simulate --plane --seed {seed}: {result.error}"


@pytest.mark.parametrize("name", plane.SEEDS)
def test_a_planted_fault_of_the_control_plane_is_found(name: str) -> None:
    assert plane.find(name, [plane.SEEDS[name]]) is not None


@pytest.mark.parametrize("first", range(0, 12, 6))
def test_no_rule_of_beats_is_broken_in_any_of_six_worlds(first: int) -> None:
    for seed in range(first, first + 6):
        result = simulate(BeatPlan.of(seed))
        assert not result.broken, f"./dev simulate --beats --seed {seed}: {result.error}"


@pytest.mark.parametrize("name", beats.SEEDS)
def test_a_planted_fault_of_beats_is_found(name: str) -> None:
    assert beats.find(name, [beats.SEEDS[name]]) is not None
