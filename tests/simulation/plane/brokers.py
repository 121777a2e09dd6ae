"""Simulated brokers with transactions: logs whose readers see what is committed, and the coordinator of transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError

from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.publish.transactions import TIMEOUT, Lost, Refused

if TYPE_CHECKING:
    from tests.simulation.plane.process import Process
    from tests.simulation.plane.world import PlaneWorld

#: A record with these bytes is too large for Kafka.
HUGE = b'"huge"'

TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)


class Sent:
    """A record, with the methods of a consumer's record that the drivers call."""

    def __init__(self, sent: Outgoing, number: int, offset: int, at: float) -> None:
        self.sent, self.at = sent, at
        key = sent.key.encode() if isinstance(sent.key, str) else sent.key
        self.topic, self.partition = (lambda: sent.topic), (lambda: number)
        self.offset, self.timestamp = (lambda: offset), (lambda: (1, round(at * 1000)))
        self.error = lambda: None
        self.key, self.value, self.headers = (lambda: key), (lambda: sent.value), (lambda: list(sent.headers))

    def __len__(self) -> int:
        return len(self.sent.value or b"")


@dataclass
class Transaction:
    """A transaction: its state, its records, and the partitions in which its marker will be."""

    began: float
    is_open: bool = True
    is_committed: bool = False
    records: list[Sent] = field(default_factory=list)
    logs: list[Partition] = field(default_factory=list)


class Partition:
    """A partition of a log. Markers of transactions are None."""

    def __init__(self) -> None:
        self.start = 0
        self._entries: list[tuple[Sent | None, Transaction | None]] = []

    @property
    def end(self) -> int:
        """The offset before which all transactions have ended."""
        open_ = (at for at, (_, within) in enumerate(self._entries) if within is not None and within.is_open)
        return next(open_, len(self._entries))

    @property
    def high(self) -> int:
        """The offset after the last record, whether or not its transaction has ended."""
        return len(self._entries)

    def append(self, make: Callable[[int], Sent] | None, within: Transaction | None = None) -> Sent | None:
        sent = None if make is None else make(len(self._entries))
        self._entries.append((sent, within))
        return sent

    def read(self, begin: int, most: int) -> tuple[list[Sent], int]:
        """Committed records from an offset on, and the offset at which to read on."""
        at, end, found = max(begin, self.start), self.end, list[Sent]()
        while at < end and len(found) < most:
            sent, within = self._entries[at]
            if sent is not None and (within is None or within.is_committed):
                found.append(sent)
            at += 1
        return found, max(at, begin)

    def everything(self) -> list[Sent]:
        """All committed records, also those that were deleted."""
        return [sent for sent, within in self._entries if sent is not None and (within is None or within.is_committed)]

    def trim(self, before: int) -> None:
        self.start = max(self.start, min(before, self.end))

    def compact(self) -> None:
        """Drops the committed records that have a later one of the same key, and those of aborted transactions."""
        seen: set[Any] = set()
        for at in range(self.end - 1, -1, -1):
            sent, within = self._entries[at]
            if sent is None:
                continue
            is_void = within is not None and not within.is_committed
            if is_void or sent.key() in seen:
                self._entries[at] = None, None
            elif not is_void:
                seen.add(sent.key())


class Brokers:
    """The logs of all topics, and the coordinator: of each transactional id the last holder counts."""

    def __init__(self, world: PlaneWorld) -> None:
        self._world = world
        self._logs: dict[tuple[str, int], Partition] = {}
        self._epochs: dict[str, int] = {}
        self._open: dict[str, Transaction] = {}

    def log(self, topic: str, number: int = 0) -> Partition:
        return self._logs.setdefault((topic, number), Partition())

    def logs(self, topic: str) -> list[Partition]:
        return [log for (name, _), log in self._logs.items() if name == topic]

    def append(self, record: Outgoing, within: Transaction | None = None) -> Sent | None:
        number, now = record.partition or 0, self._world.now
        log = self.log(record.topic, number)
        sent = log.append(lambda offset: Sent(record, number, offset, now), within)
        if within is not None and sent is not None:
            within.records.append(sent)
            within.logs += [] if log in within.logs else [log]
        return sent

    def hold(self, name: str) -> int:
        """Gives a transactional id to a new holder, and aborts what the former one has begun. Returns its epoch."""
        self._end(name, is_committed=False)
        self._epochs[name] = self._epochs.get(name, 0) + 1
        return self._epochs[name]

    def holders(self, name: str) -> int:
        """The number of holders that a transactional id has had."""
        return self._epochs.get(name, 0)

    def begin(self, name: str, epoch: int) -> bool:
        """Begins a transaction. Returns False if the id has another holder."""
        if self._epochs[name] != epoch:
            return False
        self._open[name] = Transaction(self._world.now)
        return True

    def add(self, name: str, epoch: int, records: Sequence[Outgoing]) -> bool:
        """Adds records to a transaction. Returns False if the id has another holder."""
        if self._epochs[name] != epoch or name not in self._open:
            return False
        for record in records:
            self.append(record, self._open[name])
        return True

    def commit(self, name: str, epoch: int) -> int | None:
        """Commits. Returns the offset of the last record; None if the id has another holder."""
        if self._epochs[name] != epoch or name not in self._open:
            return None
        records = self._open[name].records
        self._end(name, is_committed=True)
        return int(records[-1].offset())

    def abort(self, name: str, epoch: int) -> None:
        if self._epochs[name] == epoch:
            self._end(name, is_committed=False)

    def expire(self) -> None:
        """Aborts transactions that have taken too long; who has begun them holds the id no more."""
        for name, within in list(self._open.items()):
            if self._world.now - within.began > TIMEOUT:
                self.hold(name)

    def _end(self, name: str, *, is_committed: bool) -> None:
        if (within := self._open.pop(name, None)) is None:
            return
        within.is_open, within.is_committed = False, is_committed
        for log in within.logs:
            log.append(None)
        if is_committed:
            for record in within.records:
                self._world.judge.committed(record)


class Transactor:
    """The holder of a transactional id, in place of :class:`kafka_exec.kafka.publish.transactions.Transactor`."""

    def __init__(self, process: Process, name: str) -> None:
        self._process, self._brokers, self._name = process, process.world.brokers, name
        self._epoch = 0
        self._records: list[Outgoing] = []
        self._has_begun = False

    def open(self) -> None:
        if self._process.is_cut:
            raise Lost("no answer")
        self._epoch = self._brokers.hold(self._name)

    def begin(self, records: Sequence[Outgoing]) -> None:
        self._records = []
        self._has_begun = not self._process.is_cut and self._brokers.begin(self._name, self._epoch)
        self.add(records)

    def add(self, records: Sequence[Outgoing]) -> None:
        self._records += records
        self._has_begun = self._has_begun and self._brokers.add(self._name, self._epoch, records)

    def commit(self) -> int:
        if not self._has_begun:
            raise Lost("fenced, or no answer")
        if refused := [(each.topic, TOO_LARGE) for each in self._records if HUGE in (each.value or b"")]:
            self._brokers.abort(self._name, self._epoch)
            raise Refused(refused)
        if self._process.is_cut:
            raise Lost("no answer")
        last = self._brokers.commit(self._name, self._epoch)
        if last is None or self._process.world.is_unanswered():
            raise Lost("fenced, or no answer")
        return last

    def close(self) -> None:
        self._has_begun = False
