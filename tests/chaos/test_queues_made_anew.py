"""A queue that is deleted and made anew again and again, under a load of tasks and a crew of workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import ChannelFailed
from tests.integration.judge import judge, judge_lanes
from tests.integration.kills import CONF
from tests.integration.load import Load
from tests.integration.test_queue_made_anew import make_anew
from tests.integration.workers import Crew, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUEUES, PERIOD, WORKERS = 8, 20.0, 3


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, kafka_exec_partitions={"queue": 4}, **CONF) as found:
        yield found


def test_what_is_sent_to_the_new_queue_runs_once(made: Crew) -> None:
    workers = [made.start(f"w{number}", "-c", "2") for number in range(WORKERS)]
    made.ready(*workers)
    deleted, declared = [0.0], [0.0]
    with Load(made.app, seconds=0.02, keys=20, expected=(OperationalError, ChannelFailed)) as load:

        def of_this_queue() -> list[str]:
            """The tasks that were sent while it was there."""
            return [task for task in list(load.confirmed) if load.began[task] > declared[-1]]

        kept: set[str] = set()
        for number in range(QUEUES):
            time.sleep(PERIOD)  # for so long it is there
            made.effects.wait_for(sent := of_this_queue())
            kept |= set(sent)
            if number % 2:
                workers[0].stop()
                workers.append(made.start(workers.pop(0).name, "-c", "2"))
            deleted.append(time.time())
            make_anew(made)
            declared.append(time.time())
        load.wait_for(300)
    kept |= set(of_this_queue())
    made.effects.wait_for(kept)
    lanes = [[task for task in lane if task in kept] for lane in load.lanes()]
    effects = [*made.effects.all("begin"), *made.effects.all()]
    of_keys, of_all = judge_lanes(lanes, effects, {}), judge(load.began, effects, {})
    refused = [load.began[task] for task in load.uncertain]
    print(
        f"{QUEUES} deletions, {len(load.began)} tasks, {len(kept)} to queues that were there then, {len(refused)} refused: "
        f"{of_keys}, {of_all.again}, {of_all.overlaps}, {of_all.restarts}"
    )
    assert (of_keys.lost, of_keys.inversions, of_keys.overlaps, of_keys.again) == ([], [], [], [])
    assert (of_all.again, of_all.overlaps, of_all.restarts) == ([], [], 0)
    assert load.unexpected == []
    missing = list(zip(deleted[1:], declared[1:], strict=True))
    assert [at for at in refused if not any(begin - 1 < at < end for begin, end in missing)] == []
    assert all(worker.is_alive for worker in workers)
