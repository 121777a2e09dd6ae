"""The event loop of a simulated worker, its pool, and the runs of tasks there."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kafka_exec.core.queue.lanes import after_failure, after_retry
from kafka_exec.errors import NotConfirmed
from tests.simulation.judge import Outcome, TaskRun
from tests.simulation.worker.work import Item, Thread

if TYPE_CHECKING:
    from tests.simulation.node import Node


class Pool:
    """The records that are handed out, and the slots in which tasks run.

    Attributes:
        running: the number of slots that are taken.
    """

    def __init__(self, node: Node, slots: int) -> None:
        self._node, self._world, self._rng = node, node.world, node.rng
        self.slots = slots
        self.buffer: deque[Item] = deque()
        self.returned: deque[Item] = deque()
        self.waiting: deque[Item] = deque()
        self.running = 0
        self.threads = (self._loop(),)

    @property
    def is_busy(self) -> bool:
        """True if it has anything to do."""
        return bool(self.running or self.buffer or self.returned or self.waiting)

    def _loop(self) -> Thread:
        while True:
            yield self._rng.random() * 0.03
            while not self._node.stopping and len(self.waiting) < 2 * self.slots:
                if (item := self._next()) is None:
                    break
                if item.record.expired:
                    self._world.spawn(self._buries(item), self._node)
                else:
                    self.waiting.append(item)
            while not self._node.stopping and self.waiting and self.running < self.slots:
                self.running += 1
                self._world.spawn(self._begins(self.waiting.popleft()), self._node)

    def _next(self) -> Item | None:
        while self.returned or self.buffer:
            item = (self.returned or self.buffer).popleft()
            if item.work.deliver(item.record.offset(), item.term) is not None:
                return item
        return None

    def _buries(self, item: Item) -> Thread:
        """Writes a dead letter, which may take its time, and ends the record without a run."""
        yield self._rng.choice((0.0, 0.0, 3.0))
        self._world.judge.expires(item.record, self._node)
        item.work.end(item.record.offset())

    def _begins(self, item: Item) -> Thread:
        work, offset = item.work, item.record.offset()
        begun, may_begin = None, None
        while may_begin is None:
            try:
                may_begin = work.begin(offset, item.term)
            except NotConfirmed:
                yield 0.3
        yield from self._node.moment("begun")
        while may_begin and begun is None:
            yield self._rng.random() * 0.004
            try:
                begun = work.confirm(offset, item.term, -1.0)  # it looks once
            except NotConfirmed:
                yield 0.02
            else:
                may_begin = begun is not None
        if begun is None:
            self.running -= 1
            return
        yield self._rng.random() * self._rng.choice((0.004, 0.6))
        yield from self._node.moment("confirmed")
        self._world.spawn(self._runs(item, begun.start_by), self._node, is_child=True)

    def _runs(self, item: Item, start_by: float | None) -> Thread:
        """The task itself, in a process of the pool."""
        judge, run = self._world.judge, TaskRun(item.record, self._node)
        if start_by is not None and self._node.now > start_by:
            self._node.note("starts too late", item.record)
            self._world.spawn(self._ends(run, item, Outcome.BROKEN_OFF), self._node)
            return
        judge.starts(run)
        yield self._world.duration()
        outcome = self._world.outcome(run.record)
        if outcome is Outcome.RETRY:
            while self._node.is_cut:
                yield 0.1
            self._world.send_retry(run.record)
            yield from self._node.moment("retried")
            yield self._rng.random() * 0.01
        judge.finishes(run, outcome)
        self._world.spawn(self._ends(run, item, outcome), self._node)

    def _ends(self, run: TaskRun, item: Item, outcome: Outcome) -> Thread:
        work, offset = item.work, item.record.offset()
        yield self._rng.random() * 0.01
        if outcome is Outcome.BROKEN_OFF:
            if work.put_back(offset, item.term):
                self.returned.append(item._replace(term=work.term))
        else:
            if outcome is not Outcome.SUCCESS:
                work.will_end(offset, after_retry if outcome is Outcome.RETRY else after_failure)
                yield self._rng.random() * 0.01
            yield from self._node.moment("ending")
            self._world.judge.acknowledges(run, outcome)
            work.end(offset)
        self.running -= 1
