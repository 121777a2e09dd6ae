"""Workers of one crew, of which one after the other is killed and started anew."""

from __future__ import annotations

import os
import random
import time

import psutil
import pytest

from tests.integration.workers import Crew, Worker

#: Short, so that a killed worker's partitions are soon another's.
CONF = {"kafka_exec_session_timeout": 3}


def seed_of(request: pytest.FixtureRequest) -> int:
    """The seed of a test's chances: it is printed, and CHAOS_SEED repeats it."""
    seed = int(os.environ.get("CHAOS_SEED", time.time_ns() % 10**6))
    print(f"{request.node.name}: CHAOS_SEED={seed}")
    return seed


class Killing:
    """So many workers; kills are noted with the ids of the processes that they hit."""

    def __init__(self, made: Crew, workers: int, slots: int, seed: int) -> None:
        self.kills: dict[int, float] = {}
        self.times = 0
        self._made = made
        self._slots = slots
        self._chance = random.Random(seed)
        self._last = time.monotonic()
        self._workers = [self._start(f"w{number}") for number in range(workers)]
        made.ready(*self._workers)

    def _start(self, name: str) -> Worker:
        return self._made.start(name, "-c", str(self._slots))

    def kill_every(self, seconds: float) -> None:
        """Kills one if the last fault, or the start, was so long ago."""
        if time.monotonic() - self._last >= seconds:
            self.kill_one()

    def kill_one(self) -> None:
        """Kills a worker with its whole process group, and starts one of the same name."""
        number = self._chance.randrange(len(self._workers))
        victim = self._workers[number]
        processes = [process.pid for process in _group(victim)]
        victim.kill()
        self.kills.update(dict.fromkeys(processes, time.time()))
        self.times += 1
        self._last = time.monotonic()
        self._workers[number] = self._start(victim.name)

    def restart_one(self) -> None:
        """Stops a worker warmly, as soon as it is ready, and starts one of the same name."""
        self._restart(self._chance.randrange(len(self._workers)))

    def restart_all(self) -> None:
        """Does so with one after the other."""
        for number in range(len(self._workers)):
            self._restart(number)

    def add_one(self) -> None:
        """Starts one more, which may be killed and restarted like the others."""
        self._workers.append(self._start(f"w{len(self._workers)}"))

    def _restart(self, number: int) -> None:
        victim = self._workers[number]
        victim.wait_for_line(" ready.")  # before it has its signal handlers it would just die
        victim.stop()
        self.times += 1
        self._last = time.monotonic()
        self._workers[number] = self._start(victim.name)


def _group(worker: Worker) -> list[psutil.Process]:
    try:
        return worker.processes()
    except psutil.NoSuchProcess:
        return []
