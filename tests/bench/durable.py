"""``python -m tests.bench.durable``: a step beside a confirmed publish, and a suspension beside a task's round trip.

Each pair is taken in alternation, in one run on one machine: compare within a line only. With ``--suspended 100000``: what
so many suspended tasks cost a worker, and its restart.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.control.reducers import Command
from kafka_exec.kafka.publish.partitioner import partition_of
from kafka_exec.kafka.publish.scopes import confirmed
from tests.integration.workers import PATIENCE, Crew, crew, until

UNCOUNTED, ROUNDS, STEPS = 300, 200, 50

#: So many tasks are suspended before the memory is measured first.
WARM = 300

#: So many suspensions come at once.
CHUNK = 2000

WEEK = 7 * 86400


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suspended", type=int, default=0, metavar="N")
    number: int = parser.parse_args().suspended
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = stack.enter_context(crew(stack.enter_context(EmbeddedKafka()), folder, backend="same"))
        made.ready(made.start("one", "-c", "4"))
        if number:
            many_suspended(made, number)
            return 0
        round_trip(made)
        step, publish = made.app.tasks["timed_steps"].delay(STEPS).get(timeout=PATIENCE)
        say("a step", step, "a confirmed publish", publish)
        alternate(made, "resume() to result", resumed, "a task's round trip", round_trip)
        alternate(made, "delay() to SUSPENDED", suspended, "a task's round trip", round_trip)
    return 0


def many_suspended(made: Crew, number: int) -> None:
    """Measures a worker with so many suspended tasks, and its restart. Of most tasks there is only the suspension."""
    worker = made.workers[-1]
    results = [made.app.tasks["wait"].delay(f"warm-{each}", {"timeout": WEEK}) for each in range(WARM)]
    until(lambda: all(each.state == "SUSPENDED" for each in results))
    for each in range(WARM // 2):
        kafka_exec.resume(made.app, f"warm-{each}", 1)
    suspend_many(made, CHUNK)  # from here on it has its buffers
    before = worker.memory()
    for begin in range(0, number, CHUNK):
        suspend_many(made, min(CHUNK, number - begin))
    kafka_exec.resume(made.app, f"warm-{WARM - 2}", 1, timeout=PATIENCE)
    print(f"{number} suspended tasks: the worker has {before:.1f} MB before, {worker.memory():.1f} MB then", flush=True)
    worker.stop()
    start = time.perf_counter()
    again = made.start("one", "-c", "4")
    again.wait_for_line(" ready.")
    ready = time.perf_counter() - start
    outcome = kafka_exec.resume(made.app, f"warm-{WARM - 1}", 1, timeout=PATIENCE).outcome
    print(
        f"a restart is ready after {ready:.1f} s, has {outcome} a task after {time.perf_counter() - start:.1f} s, "
        f"and has {again.memory():.1f} MB"
    )


def suspend_many(made: Crew, number: int) -> None:
    """Tells the control plane of so many suspended tasks, and returns when it knows all of them."""
    space = made.app.backend.space
    cluster, topic = space.cluster, space.topics.control
    body = {"created": time.time(), "number": 0, "page": [0, 0], "expected": 1, "deadline": time.time() + WEEK}
    with confirmed():
        for _ in range(number):
            name = f"approve-{uuid.uuid4()}"
            command = Command("wait.suspend", {**body, "id": name, "task": str(uuid.uuid4()), "tells": True})
            cluster.publisher.send(topic, command.encode(), key=name)
    partitions = list(range(cluster.topics.partitions(topic) or 0))
    # The changes of a command are in the changelog before those of a later one, which a caller waits for.
    for partition in partitions:
        name = next(n for n in map(str, itertools.count()) if partition_of(n, len(partitions)) == partition)
        assert kafka_exec.resume(made.app, name, 1, timeout=600).outcome in ("kept", "already")


def alternate(
    made: Crew, one: str, first: Callable[[Crew], float], other: str, second: Callable[[Crew], float]
) -> None:
    """Takes two measurements in turn, and prints their medians. A broker that has just started is slow: it compiles."""
    taken = [(first(made), second(made)) for _ in range(UNCOUNTED + ROUNDS)][UNCOUNTED:]
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
