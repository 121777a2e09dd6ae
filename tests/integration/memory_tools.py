"""A worker's memory while its tasks end by errors, in every way that an error can end a task."""

from __future__ import annotations

from typing import Any

from tests.integration.workers import Crew, Worker, until

#: The tasks, with their arguments; two of them end twice.
ENDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("fail", ("that fails",)),
    ("ignored", ()),
    ("picky", ("that is rejected",)),
    ("stumble", (1,)),
    ("flaky", (1,)),
)


def run_all(crew: Crew, rounds: int) -> None:
    """Has each kind of task end so many times."""
    for task, arguments in ENDS:
        crew.send(task, *arguments, number=rounds)
    until(lambda: crew.backlog() == 0, timeout=600, what="all have ended")


def grown(crew: Crew, worker: Worker, rounds: int, *, warm_up: int = 15) -> list[float]:
    """By how much each of a worker's processes has grown after so many rounds, megabytes."""
    run_all(crew, warm_up)
    processes = worker.processes()
    # What is shared with the parent counts too: of that, a collection of garbage makes a copy.
    before = [process.memory_info().rss for process in processes]
    run_all(crew, rounds)
    assert worker.processes() == processes
    return [(process.memory_info().rss - was) / 1e6 for process, was in zip(processes, before, strict=True)]
