"""Chords under fire, judged by what their bodies have written down and by the messages that Kafka keeps."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from celery import chord, group
from celery.result import AsyncResult

from tests.integration.control_tools import in_each_partition
from tests.integration.records import committed
from tests.integration.workers import PATIENCE, Crew, Worker, until

#: Between two kills, seconds.
PAUSE = 3.0

#: A worker that is soon back.
QUICK = ("-c", "2", "--without-gossip")


def bodies(made: Crew) -> Counter[str]:
    """The number of messages of each chord's body, by the chord's key."""
    found = Counter[str]()
    for record in committed(made.kafka, f"{made.prefix}.queue.celery"):
        if (key := json.loads(record.value())[1].get("key")) is not None:
            found[key] += 1
    return found


def settled(made: Crew, stem: str) -> None:
    """Waits until the control plane has taken all commands sent so far: a new chord in each partition comes behind them."""
    part, total = made.app.tasks["part"], made.app.tasks["total"]
    headers = [group([part.s(1)]).set(task_id=name) for name in in_each_partition(stem)]
    for result in [chord(header, total.s()).delay() for header in headers]:
        assert result.get(timeout=PATIENCE) == 1


def chords_under_kills(made: Crew, *, chords: int, size: int, kills: int | None) -> None:
    """Runs chords on three workers of which one after the other is killed and started again.

    Each body must have one message, and it runs once, unless the process of a run was killed before it was acknowledged.
    Without a number of kills they go on until all bodies have run.
    """
    workers = [made.start(f"w{number}", *QUICK) for number in range(3)]
    made.ready(*workers)
    keys = [f"chord-{number}" for number in range(chords)]
    killed: set[int] = set()

    def send(key: str) -> AsyncResult:
        part, close = made.app.tasks["part"], made.app.tasks["close"]
        return chord([part.s(number) for number in range(size)], close.s(key=key)).delay()

    began = time.monotonic()
    with ThreadPoolExecutor(1) as sender:
        sent = [sender.submit(send, key) for key in keys]
        for number in itertools.count() if kills is None else range(kills):
            if not _pause(made, keys, workers):
                break
            killed |= _kill(workers[number % 3])
            workers[number % 3] = made.start(f"w{number % 3}", *QUICK)
        results = [each.result() for each in sent]
    for result in results:
        assert result.get(timeout=PATIENCE) == list(range(size))
    settled(made, "end")
    print(f"{chords} chords, {number + 1} kills, {time.monotonic() - began:.1f} s", end=" ")
    messages, runs = bodies(made), {key: _runs(made, key) for key in keys}
    assert {key: messages[key] for key in keys if messages[key] != 1} == {}
    again = [key for key in keys if len(runs[key]) != 1]
    print(f"{len(again)} bodies were interrupted and ran again", end=" ")
    assert [key for key in again if not runs[key] or not set(runs[key][:-1]) <= killed] == []


def _runs(made: Crew, key: str) -> list[int]:
    """The processes in which a body has run, in their order."""
    return [effect.pid for effect in made.effects.all() if effect.task == key]


def _pause(made: Crew, keys: Iterable[str], workers: Iterable[Worker]) -> bool:
    """Waits until the next kill is due and all workers are back; False: all bodies have run before."""
    due, waiting = time.monotonic() + PAUSE, list(workers)

    def is_due() -> bool:
        return time.monotonic() >= due and all(" ready." in worker.output for worker in waiting)

    until(lambda: not _missing(made, keys) or is_due())
    return bool(_missing(made, keys))


def _missing(made: Crew, keys: Iterable[str]) -> int:
    return len(set(keys) - set(made.effects.count()))


def _kill(worker: Worker) -> set[int]:
    """Kills a worker; the processes it had."""
    pids = {process.pid for process in worker.processes()}
    worker.kill()
    return pids
