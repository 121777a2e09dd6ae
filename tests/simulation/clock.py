"""The clocks of simulated processes, in place of those that the executor of partitions reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from kafka_exec.core.queue import ledger, progress
from kafka_exec.core.queue.partition import outbox, parking
from kafka_exec.kafka.queue import commits, journal_writer, owned


class Clock:
    """The present time. ``now``: the brokers'; ``ahead``: how far the steady clock of the process that runs is ahead."""

    def __init__(self) -> None:
        self.now = self.ahead = 0.0

    def monotonic(self) -> float:
        return self.now + self.ahead

    def time(self) -> float:
        return self.now


@contextmanager
def simulated(clock: Clock, *, checkpoint_after: int, patience: float) -> Iterator[None]:
    """Has the executor read a simulated clock, and do often what it does seldom.

    Args:
        checkpoint_after: a checkpoint is due after so many transitions.
        patience: waiting tasks are parked after so many seconds of a standstill.
    """
    with ExitStack() as stack:
        for module in (owned, journal_writer, commits):
            stack.enter_context(patch.object(module, "time", clock))
        stack.enter_context(patch.object(outbox, "_CHECKPOINT_AFTER", checkpoint_after))
        stack.enter_context(patch.object(parking, "PATIENCE", patience))
        stack.enter_context(patch.object(parking, "_MOST_AT_ONCE", 5))
        stack.enter_context(patch.object(ledger, "_MOST_BYTES", 600))
        stack.enter_context(patch.object(progress, "LONGEST_METADATA", 70))
        yield
