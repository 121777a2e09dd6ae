"""The search for a broken rule: many worlds, and of one that breaks a rule a small one that breaks it too."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from tests.simulation.judge import Violation
from tests.simulation.world import Plan, World

#: What is broken if the simulated code raises an error.
FAILS = "an error"

#: So many seeds of a smaller plan are tried.
_SEEDS = 25


class Result(NamedTuple):
    """The result of a simulation. ``broken``: the rule that it breaks; empty: none. ``end``: its simulated end, seconds."""

    plan: Plan
    broken: str
    error: str
    steps: int
    faults: int
    runs: int
    end: float
    history: list[str]


def simulate(plan: Plan, *, keeps_history: bool = False) -> Result:
    """Runs one world to its end."""
    world = World(plan, keeps_history=keeps_history)
    broken = error = ""
    logger = logging.getLogger("kafka_exec")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # the history of a world tells its faults
    try:
        world.run()
    except Violation as violation:
        broken, error = violation.rule, str(violation)
    except Exception as fault:  # the code that is simulated must not fail at all
        broken, error = FAILS, repr(fault)
    finally:
        logger.setLevel(level)
    history = [_line(*each) for each in world.history or ()]
    return Result(plan, broken, error, world.steps, world.faults.happened, world.judge.runs, world.now, history)


def _line(at: float, who: str, event: str, details: tuple[object, ...]) -> str:
    shown = (each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in details)
    return f"{at:9.3f}  {who:<10} {event} {' '.join(shown)}".rstrip()


def shrunk(found: Result, seconds: float) -> Result:
    """A smaller simulation that breaks the same rule, with its history; looked for during some seconds."""
    deadline = time.monotonic() + seconds
    smallest = found
    progress = True
    while progress and time.monotonic() < deadline:
        progress = False
        for plan in _smaller(smallest.plan):
            tried = (simulate(replace(plan, seed=plan.seed + more)) for more in range(_SEEDS))
            found_again = next((each for each in tried if each.broken == smallest.broken), None)
            if found_again is not None:
                smallest, progress = found_again, True
                break
            if time.monotonic() > deadline:
                break
    return simulate(smallest.plan, keeps_history=True)


def _smaller(plan: Plan) -> Iterator[Plan]:
    for fault in plan.faults:
        yield replace(plan, faults=tuple(each for each in plan.faults if each != fault))
    if plan.moment:
        yield replace(plan, moment="")
    if plan.lossy:
        yield replace(plan, lossy=0.0)
    if plan.partitions > 1:
        yield replace(plan, partitions=1)
    if plan.nodes > 1:
        yield replace(plan, nodes=plan.nodes - 1)
    for kind in plan.kinds if len(plan.kinds) > 1 else ():
        yield replace(plan, kinds=tuple(each for each in plan.kinds if each != kind))
    if plan.retries:
        yield replace(plan, retries=0.0)
    for share in (0.5, 0.75):
        if plan.tasks > 2:
            yield replace(plan, tasks=max(2, int(plan.tasks * share)))
        if plan.seconds > 4:
            yield replace(plan, seconds=max(4.0, plan.seconds * share))
