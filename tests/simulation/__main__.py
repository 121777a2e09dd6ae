"""``./dev simulate``: worlds from consecutive seeds, until a rule is broken or the time is over."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from tests.simulation import mutants
from tests.simulation.beats import mutants as beat_mutants
from tests.simulation.beats.world import BeatPlan
from tests.simulation.plane import mutants as plane_mutants
from tests.simulation.plane.world import PlanePlan
from tests.simulation.search import Result, shrunk, simulate
from tests.simulation.world import Plan

#: So long a smaller world is looked for that breaks the same rule, seconds.
_SHRINKING = 60.0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev simulate", description=__doc__)
    parser.add_argument("--minutes", type=float, help="how long; with --seed and without it, that seed only")
    parser.add_argument("--seed", type=int, help="the first seed")
    parser.add_argument("--nodes", type=int, help="the number of workers; by default each seed has its own")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--plane", action="store_true", help="the control plane: chords, suspensions and delayed tasks")
    kinds.add_argument("--beats", action="store_true", help="beats: the claims and the firings of periodic entries")
    parser.add_argument("--mutants", action="store_true", help="planted faults, each of which must be found")
    options = parser.parse_args(argv)
    if options.mutants:
        return _find_mutants()
    is_one = options.seed is not None and options.minutes is None
    kind = BeatPlan if options.beats else PlanePlan if options.plane else Plan
    deadline = time.monotonic() + 60 * (options.minutes or 1.0)
    worlds = steps = faults = runs = 0
    simulated = 0.0
    began = time.process_time()
    for seed in itertools.count(options.seed or 0):
        result = simulate(kind.of(seed, options.nodes))
        worlds, steps, faults, runs = worlds + 1, steps + result.steps, faults + result.faults, runs + result.runs
        simulated += result.end
        if result.broken:
            _tell(result)
            return 1
        if is_one or time.monotonic() > deadline:
            break
    speed = steps / (time.process_time() - began)
    print(
        f"{worlds} worlds, {steps:,} steps ({speed:,.0f} a second), {simulated / 3600:.1f} simulated hours, {faults:,} "
        f"faults, {runs:,} runs of tasks: no rule is broken"
    )
    return 0


def _tell(result: Result) -> None:
    print(f"seed {result.plan.seed} breaks a rule: {result.error}\nlooking for a smaller world …", flush=True)
    smallest = shrunk(result, _SHRINKING)
    print(f"\n{smallest.plan}\n")
    print("\n".join(smallest.history))
    print(f"\n{smallest.error}")


def _find_mutants() -> int:
    all_ = missed = 0
    for module in (mutants, plane_mutants, beat_mutants):
        for name in module.MUTANTS:
            result = module.find(name, [module.SEEDS[name]] if name in module.SEEDS else range(300))
            all_, missed = all_ + 1, missed + (result is None)
            where = "NOT FOUND" if result is None else f"seed {result.plan.seed:<4} {result.error[:100]}"
            print(f"{name:45} {where}", flush=True)
    print(f"{all_ - missed} of {all_} planted faults are found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
