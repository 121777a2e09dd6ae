"""More workers do more: rates of one to eight workers, beyond the number of partitions too, and workers that come and go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.load import Load
from tests.integration.workers import Crew, Worker, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: A task waits so long, seconds, and each worker has so many slots: two cores have time for many workers of this kind.
TASK = 0.5
SLOTS = 2

#: The rate is that of so many seconds while more waits than can be done.
WINDOW = 12.0

#: A worker that is added begins its first task within so many seconds from the start of its process.
FIRST_TASK = 10.0


@contextmanager
def workers(kafka: EmbeddedKafka, folder: Path, number: int, partitions: int) -> Iterator[Crew]:
    folder.mkdir()
    with crew(kafka, folder, kafka_exec_partitions={"queue": partitions}) as made:
        started = [made.start(f"w{n}", "-P", "threads", "-c", str(SLOTS)) for n in range(number)]
        for worker in started:
            worker.wait_for_line(" ready.")
        yield made


def rate(kafka: EmbeddedKafka, folder: Path, number: int, partitions: int) -> float:
    """The tasks that end each second with so many workers."""
    with workers(kafka, folder, number, partitions) as made:
        most = int(number * SLOTS / TASK * (WINDOW + 10))
        made.send("work", TASK, number=most)
        begun = time.time()
        until(lambda: made.effects.all("begin"), what="the first begin")
        until(lambda: time.time() > begun + WINDOW + 6, what="the window")
        ended = [each.time for each in made.effects.all()]
        found = sum(begun + 4 < at <= begun + 4 + WINDOW for at in ended) / WINDOW
        assert len(ended) < most, "the window had work to its end"
        until(lambda: len(made.effects.all()) == most, what="all ends")
        made.effects.assert_once(made.effects.count(), "begin")
        return found


@pytest.mark.parametrize(
    ("partitions", "numbers", "share"),
    [
        pytest.param(16, (2, 4, 8), 0.8, id="a partition for each"),
        # Half of them run what others give them, and wait for that between two tasks.
        pytest.param(4, (8,), 0.7, id="fewer partitions than workers"),
    ],
)
def test_so_many_workers_do_so_many_times_as_much(
    kafka: EmbeddedKafka, tmp_path: Path, partitions: int, numbers: tuple[int, ...], share: float
) -> None:
    one = rate(kafka, tmp_path / "1", 1, partitions)
    several = {number: rate(kafka, tmp_path / str(number), number, partitions) for number in numbers}
    found = {number: each / (number * one) for number, each in several.items()}
    print(f"one worker: {one:.2f} tasks/s; of the rate of as many single ones: {found}")
    assert min(found.values()) >= share, found


def first_begin(made: Crew, worker: Worker) -> float:
    """Waits for the first task that a worker begins; when that was."""

    def begins() -> list[float]:
        return [each.time for each in made.effects.all("begin") if each.worker == worker.name]

    return min(until(begins, what=f"a task in {worker.name}"))


def test_a_worker_that_is_added_has_work_soon_and_one_that_goes_leaves_all_to_the_others(
    kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    with crew(kafka, tmp_path) as made:
        made.ready(made.start("first", "-P", "threads", "-c", "2"))
        with Load(made.app, 0.2, pause=0.05) as load:
            started = time.time()
            added = [made.start(name, "-P", "threads", "-c", "2") for name in ("second", "third")]
            soon = [round(first_begin(made, worker) - started, 1) for worker in added]
            for worker in added:
                worker.stop()
        made.effects.wait_for(load.confirmed)
        made.effects.assert_once(load.confirmed, "begin")
        until(lambda: made.backlog() == 0, what="a commit of all")
    print(
        f"first begins {[round(each, 1) for each in soon]} s after the start of the processes; {len(load.confirmed)} tasks"
    )
    assert max(soon) <= FIRST_TASK
