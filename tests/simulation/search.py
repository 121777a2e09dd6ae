"""The search for a broken rule: many worlds, and of one that breaks a rule a small one that breaks it too."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from unittest.mock import patch

from kafka_exec.kafka.client import native
from tests.simulation.judge import Violation

#: What is broken if the simulated code raises an error.
FAILS = "an error"

#: A planted fault is some changes of the code: an object, the name of its attribute, and the attribute in its place.
Change = tuple[Any, str, Any]

#: So many seeds of a smaller plan are tried.
_SEEDS = 25


class Result(NamedTuple):
    """The result of a simulation.

    Attributes:
        plan: the :class:`~tests.simulation.world.Plan`, or that of another kind of world.
        broken: the rule that it breaks; empty: none.
        end: its simulated end, seconds.
    """

    plan: Any
    broken: str
    error: str
    steps: int
    faults: int
    runs: int
    end: float
    history: list[str]


def simulate(plan: Any, *, keeps_history: bool = False) -> Result:
    """Runs one world to its end. The process has no other threads: what is changed in the code holds for all of them."""
    assert threading.active_count() == 1
    assert not native._running
    world = plan.world(keeps_history=keeps_history)
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
        for plan in smallest.plan.smaller():
            tried = (simulate(replace(plan, seed=plan.seed + more)) for more in range(_SEEDS))
            found_again = next((each for each in tried if each.broken == smallest.broken), None)
            if found_again is not None:
                smallest, progress = found_again, True
                break
            if time.monotonic() > deadline:
                break
    return simulate(smallest.plan, keeps_history=True)


@contextmanager
def planted(changes: Iterable[Change]) -> Iterator[None]:
    """Has the code a planted fault."""
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(patch.object(*change))
        yield


def first_broken(changes: Iterable[Change], plans: Iterable[Any]) -> Result | None:
    """The first of some simulations that finds a planted fault; None if none does. An error is no find."""
    with planted(changes):
        return next((result for result in map(simulate, plans) if result.broken not in ("", FAILS)), None)
