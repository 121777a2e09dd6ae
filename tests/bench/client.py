"""The publishing side, a process of its own: ``python -m tests.bench.client MODE COUNT`` prints its figures as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from celery import chord, group

from tests.bench import board
from tests.bench.app import add, app, stamp, tick, total

WARM_UP = 20
START_TIMEOUT = 60.0
RESULT_TIMEOUT = 60.0
GROUP = 1000
CHORD = 200
REPEATED = 3
PAUSE = 0.005


def held(count: int) -> float:
    """Publishes with one producer held all the time; what it has not confirmed yet is confirmed when it is let go."""
    began = time.perf_counter()
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            tick.apply_async(producer=producer)
    return time.perf_counter() - began


def grouped(count: int) -> float:
    """Publishes a group."""
    signatures = group([tick.s() for _ in range(count)])
    began = time.perf_counter()
    signatures.apply_async()
    return time.perf_counter() - began


def single(count: int) -> float:
    """Publishes one by one."""
    began = time.perf_counter()
    for _ in range(count):
        tick.delay()
    return time.perf_counter() - began


def latencies(count: int) -> list[float]:
    """The time from ``delay()`` to the start of its task, one task at a time."""
    reader = board.Reader(Path(os.environ[board.FOLDER]))
    times = [_latency(reader, sequence) for sequence in range(count + WARM_UP)]
    return times[WARM_UP:]


def _latency(reader: board.Reader, sequence: int) -> float:
    published = time.time()
    stamp.delay(sequence)
    deadline = published + START_TIMEOUT
    while (now := time.time()) < deadline:
        for row in reader.rows():
            # A row that says `sequence` may still hold the time of the task before it.
            if row.sequence == sequence and row.started >= published:
                time.sleep(PAUSE)
                return row.started - published
        if now - published > 0.1:
            reader.look_for_processes()
        time.sleep(0.0005)
    raise TimeoutError(f"task {sequence} did not start within {START_TIMEOUT:.0f} s")


def results(count: int) -> dict[str, list[float]]:
    """Seconds from ``delay()`` to its result in a closed loop, and those of groups and chords as a whole."""
    for number in range(WARM_UP):
        assert add.delay(number, 1).get(timeout=RESULT_TIMEOUT) == number + 1
    found: dict[str, list[float]] = {"roundtrip": [], "group": [], "chord": []}
    for _ in range(count):
        began = time.perf_counter()
        assert add.delay(1, 2).get(timeout=RESULT_TIMEOUT) == 3
        found["roundtrip"].append(time.perf_counter() - began)
    for _ in range(REPEATED):
        began = time.perf_counter()
        assert sum(group(add.s(1, 0) for _ in range(GROUP))().get(timeout=RESULT_TIMEOUT)) == GROUP
        found["group"].append(time.perf_counter() - began)
        began = time.perf_counter()
        assert chord((add.s(1, 0) for _ in range(CHORD)), total.s())().get(timeout=RESULT_TIMEOUT) == CHORD
        found["chord"].append(time.perf_counter() - began)
    return found


def main(mode: str, count: int) -> None:
    """Measures one way to publish; a first task beforehand pays for connection and declarations."""
    if mode in ("latencies", "results"):
        print(json.dumps({"latencies": latencies, "results": results}[mode](count)))
        return
    tick.delay()
    print(json.dumps(count / {"held": held, "grouped": grouped, "single": single}[mode](count)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
