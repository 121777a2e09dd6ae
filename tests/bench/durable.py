"""``python -m tests.bench.durable``: a step beside a confirmed publish, and a suspension beside a task's round trip.

Each pair is taken in alternation, in one run on one machine: compare within a line only.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import PATIENCE, Crew, crew, until

ROUNDS, STEPS = 100, 50


def main() -> int:
    """Prints the figures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = stack.enter_context(crew(stack.enter_context(EmbeddedKafka()), folder, backend="same"))
        made.ready(made.start("one", "-c", "4"))
        round_trip(made)
        step, publish = made.app.tasks["timed_steps"].delay(STEPS).get(timeout=PATIENCE)
        say("a step", step, "a confirmed publish", publish)
        alternate(made, "resume() to result", resumed, "a task's round trip", round_trip)
        alternate(made, "delay() to SUSPENDED", suspended, "a task's round trip", round_trip)
    return 0


def alternate(
    made: Crew, one: str, first: Callable[[Crew], float], other: str, second: Callable[[Crew], float]
) -> None:
    """Takes two measurements in turn, and prints their medians."""
    taken = [(first(made), second(made)) for _ in range(ROUNDS)]
    left, right = (statistics.median(each) * 1000 for each in zip(*taken, strict=True))
    say(one, left, other, right)


def say(one: str, left: float, other: str, right: float) -> None:
    """Prints two medians, milliseconds, and their ratio."""
    print(f"{one:22} {left:6.2f} ms   {other:22} {right:6.2f} ms   ratio {left / right:.2f}", flush=True)


def round_trip(made: Crew) -> float:
    """The time from ``delay()`` to the result of a task."""
    start = time.perf_counter()
    made.app.tasks["add"].delay(1, 2).get(timeout=PATIENCE)
    return time.perf_counter() - start


def suspended(made: Crew) -> float:
    """The time from ``delay()`` to the state SUSPENDED."""
    start = time.perf_counter()
    wait_for_suspension(made)
    return time.perf_counter() - start


def resumed(made: Crew) -> float:
    """The time from ``resume()`` to the result of the task."""
    name, result = wait_for_suspension(made)
    start = time.perf_counter()
    kafka_exec.resume(made.app, name, 1)
    result.get(timeout=PATIENCE)
    return time.perf_counter() - start


def wait_for_suspension(made: Crew) -> tuple[str, Any]:
    """A correlation id, and the result of the task that waits with it."""
    result = made.app.tasks["wait"].delay(name := f"bench-{time.time_ns()}")
    until(lambda: result.state == "SUSPENDED")
    return name, result


if __name__ == "__main__":
    sys.exit(main())
