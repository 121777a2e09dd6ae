"""A work queue of which something is paused: it gives out, and grants, only what is not."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from kafka_exec.core.queue.pausing import NO_PAUSES, Pause, QueuePauses
from kafka_exec.core.worker.sharing import Grant
from kafka_exec.kafka.queue.reader import Handed
from kafka_exec.transport.sources import Item, WorkQueue

NOW = 1000.0
PAUSE = Pause("ann", 900.0)
WHOLE = QueuePauses(PAUSE)
KEY = QueuePauses(keys={"k": PAUSE})


def record(offset: int, key: str | None = None) -> Any:
    headers = [] if key is None else [("ordering-key", key.encode())]
    return SimpleNamespace(offset=lambda: offset, partition=lambda: 0, headers=lambda: headers)


class Reader:
    """The reader of one step, whose partition is this worker's."""

    def __init__(self, work: Any, *records: Any) -> None:
        self.settled = True
        self.work = work
        self.buffer = deque((each, work, 0) for each in records)
        self.works = lambda: [work]

    def take(self) -> Handed | None:
        return Handed(*self.buffer.popleft(), False) if self.buffer else None

    def give(self, found: Any, work: Any, term: int, incarnation: str) -> Grant:
        return Grant(incarnation, "q", 0, found.offset(), 0, "id", 0)

    def made_durable(self, grants: list[Grant]) -> list[Grant]:
        return grants

    def discard(self) -> None:
        self.buffer.clear()

    def release(self) -> None:
        self.was_released = True

    def reclaim(self) -> bool:
        return True


class Queue(WorkQueue):
    """A work queue with records in memory, one list for each step, the lowest first."""

    def __init__(self, *steps: list[Any]) -> None:
        self.ended: list[int] = []
        self.woken: list[bool] = []
        self.pauses = NO_PAUSES
        work: Any = SimpleNamespace(
            deliver=lambda offset, term: False, put_back=lambda offset, term: True, term=0, end=self.ended.append
        )
        readers: Any = [Reader(work, *records) for records in steps]
        self.name, self._readers, self._turn, self._told = "q", readers, 0, NO_PAUSES
        self._is_released, self._used_every = False, None
        self._returned, self._aside = [deque() for _ in steps], {}
        self._wake = lambda: self.woken.append(True)
        self._log_time = lambda: NOW
        space: Any = SimpleNamespace(bindings=SimpleNamespace(pauses=lambda name: self.pauses))
        self._space = space

    def taken(self) -> list[int]:
        """The offsets of all that can be taken now."""
        return [item.record.offset() for item in iter(self.take, None)]


def test_a_paused_queue_gives_out_and_grants_nothing_until_it_is_resumed() -> None:
    queue = Queue([record(0), record(1, "k")])
    queue.pauses = WHOLE
    assert queue.taken() == []
    assert queue.share(["i", "j"], iter(())) == []
    queue.pauses = NO_PAUSES
    assert queue.taken() == [0, 1]


def test_a_pause_is_over_at_its_time_by_the_logs_clock() -> None:
    queue = Queue([record(0), record(1)])
    queue.pauses = QueuePauses(PAUSE._replace(until=NOW + 0.1))
    assert queue.taken() == []
    queue._log_time = lambda: NOW + 0.1
    assert queue.taken() == [0, 1]


def test_a_paused_key_lets_others_pass_and_comes_in_its_order_when_it_is_resumed() -> None:
    queue = Queue([record(0, "k"), record(1), record(2, "k"), record(3, "l"), record(4)])
    queue.pauses = KEY
    assert queue.taken() == [1, 3, 4]
    assert queue.taken() == []
    queue._readers[0].buffer.append((record(5), queue._readers[0].work, 0))  # type: ignore[attr-defined]
    queue.pauses = NO_PAUSES
    assert queue.taken() == [0, 2, 5]


def test_a_paused_key_of_an_urgent_step_does_not_keep_the_step_below_waiting() -> None:
    queue = Queue([record(0), record(1, "k")], [record(2, "k"), record(3)])
    queue.pauses = KEY
    assert queue.taken() == [3, 0]
    queue.pauses = NO_PAUSES
    assert queue.taken() == [2, 1]


def test_no_task_of_a_paused_key_is_granted() -> None:
    queue = Queue([record(0), record(1, "k"), record(2), record(3, "k")])
    queue.pauses = KEY
    taken = queue.take()
    assert taken is not None
    of_key = Item(record(7, "k"), taken.work, 0, False)
    assert [grant.offset for grant in queue.share(["i", "j", "j"], iter([of_key, taken]))] == [2, 0]
    assert queue.taken() == []
    queue.pauses = NO_PAUSES
    assert queue.taken() == [1, 3, 7]


def test_a_purge_ends_what_is_paused() -> None:
    queue = Queue([record(0, "k"), record(1), record(2, "k")])
    queue.pauses = KEY
    assert queue.taken() == [1]
    queue.discard()
    assert queue.ended == [0, 2]
    queue.pauses = NO_PAUSES
    assert queue.taken() == []


def test_a_queue_without_a_consumer_keeps_nothing_back_from_its_readers() -> None:
    queue = Queue([record(0, "k"), record(1), record(2, "k"), record(3)])
    queue.pauses = KEY
    first = queue.take()
    assert first is not None
    assert queue.taken() == [3]
    queue.put_back(first)
    queue.release()
    queue._look_after()
    assert [each.offset() for each, *_ in queue._readers[0].buffer] == [0, 1, 2]
    assert queue.reclaim()
    assert queue.taken() == [1]
    queue._look_after()
    queue.pauses = NO_PAUSES
    assert queue.taken() == [0, 2]


def test_each_pause_is_told_once_and_its_end_wakes_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue([record(0)])
    queue.pauses = QueuePauses(PAUSE._replace(reason="a move"), {"k": PAUSE._replace(until=NOW + 1)})
    for _ in range(2):
        queue._tell_pauses()
    told = [
        "queue q is paused by ann: a move",
        "key k of queue q is paused by ann: no reason is given",
    ]
    assert (caplog.messages, queue.woken) == (told, [])
    queue._log_time = lambda: NOW + 1
    queue._tell_pauses()
    assert (caplog.messages[2:], queue.woken) == (["key k of queue q is not paused any more"], [True])
    queue.pauses = NO_PAUSES
    for _ in range(2):
        queue._tell_pauses()
    assert (caplog.messages[3:], queue.woken) == (["queue q is not paused any more"], [True, True])
