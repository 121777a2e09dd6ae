"""A partition as a simulated worker has it: the real executor, with simulated records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kafka_exec.core.queue.lanes import Ticket
from kafka_exec.core.queue.restoring import JournalEntry
from kafka_exec.kafka.queue.owned import OwnedPartition
from tests.simulation.brokers import Record

#: A thread yields where others may come between: the number is the time until it goes on, in seconds.
Thread = Iterator[float]

#: Copies of a task are dropped for so long: longer than any simulation.
REMEMBER = 10_000.0


class Work(OwnedPartition):
    """The executor of a partition, whose records are simulated ones."""

    def _ticket(self, record: Any, attempts: int = 0) -> Ticket | None:
        return record.ticket(restarted=attempts > 0 or self._core.may_have_begun(record.offset()))


class Item(NamedTuple):
    """A record that is handed out."""

    record: Record
    work: Work
    term: int


class Sink:
    """The records of a followed partition of the journal: kept while the partition is restored, and heard afterwards."""

    def __init__(self, position: int, *, keeps: bool) -> None:
        self.position = position
        self.kept: list[JournalEntry] | None = [] if keeps else None
