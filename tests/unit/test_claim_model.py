"""Nodes that share entries in a world of faults: never two holders whose effects count, and always somebody who holds."""

from __future__ import annotations

import pytest

from kafka_exec.core.beat.claimlog import ClaimLog
from tests.unit.claim_model import World

FAULTS, CALM = 60.0, 20.0


@pytest.mark.parametrize("seed", range(20))
def test_each_slot_is_fired_once_by_who_holds_the_entry(seed: int) -> None:
    world = World(seed, nodes=3 + seed % 3, faults_until=FAULTS)
    world.run(FAULTS + CALM)
    assert world.wrongs() == []
    fold = ClaimLog()
    for offset, signal, at in world.committed():
        fold.take(signal, offset, at)
    for name in world.names:
        standing = fold.standing(name)
        assert standing.holder in {member.claimant.incarnation for member in world.members}
        assert world.now - (standing.slot or 0.0) < 5.0
    assert sum(member.claimant.holds(name) for member in world.members for name in world.names) == len(world.names)


@pytest.mark.parametrize("seed", range(20))
def test_no_two_nodes_run_an_entry_at_a_time(seed: int) -> None:
    world = World(seed, nodes=3 + seed % 3, faults_until=FAULTS, on_nodes=True)
    world.run(FAULTS + CALM)
    assert world.overlaps() == []
    assert world.wrongs() == []
    assert {run.entry for run in world.runs if run.begin > 1000.0 + FAULTS} == set(world.names), "they go on"
    assert len({run.incarnation for run in world.runs}) > 1


def test_the_model_notices_when_runs_have_no_lease() -> None:
    def goes_wrong(seed: int) -> bool:
        world = World(seed, faults_until=FAULTS, on_nodes=True, leases=False)
        world.run(FAULTS + CALM)
        return bool(world.overlaps())

    assert any(goes_wrong(seed) for seed in range(100))


@pytest.mark.parametrize("broken", ["fences", "renews"])
def test_the_model_notices_when_a_safeguard_is_missing(broken: str) -> None:
    def goes_wrong(seed: int) -> bool:
        world = World(seed, faults_until=FAULTS, **{broken: False})  # type: ignore[arg-type]
        world.run(FAULTS + CALM)
        return bool(world.wrongs())

    assert any(goes_wrong(seed) for seed in range(100))
