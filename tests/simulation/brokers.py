"""The simulated brokers: a queue's topic and its journal, the log of heartbeats, and the group of the queue's consumers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.queue.lanes import Lane, Run, Ticket
from kafka_exec.core.worker.sharing import Grant

#: Seconds between two heartbeats of a node, and seconds without one of its members after which the group gives it up.
PERIOD, SESSION = 1.0, 6.0

QUEUE = "q"


class Place(NamedTuple):
    """The place of a record: the id of its topic, without which the rest means nothing, its partition, and its offset."""

    topic: str
    partition: int
    offset: int


class Task:
    """A task as its client sends it. ``key`` and ``unique``: its ordering key and deduplication id, empty for none."""

    __slots__ = ("expires", "key", "name", "unique")

    def __init__(self, name: str, key: str = "", unique: str = "", expires: bool = False) -> None:
        self.name, self.key, self.unique, self.expires = name, key, unique, expires

    @property
    def id(self) -> str:
        """The task's id: its deduplication id is one."""
        return self.unique or self.name


class Record:
    """A record of the queue, with the methods of a consumer's record that the executor calls."""

    __slots__ = ("at", "expired", "lane", "place", "run", "sent_by", "task")

    def __init__(self, place: Place, task: Task, retries: int, sent_by: int | None, at: float) -> None:
        self.place, self.task, self.sent_by, self.at = place, task, sent_by, at
        self.run = Run(task.id, retries)
        self.lane = Lane("key", task.key) if task.key else Lane("id", task.id)
        self.expired = task.expires and not retries

    def __len__(self) -> int:
        return 200_000  # a few of them fill the memory for records that wait

    def offset(self) -> int:
        return self.place.offset

    def headers(self) -> list[tuple[str, bytes]]:
        return []

    def timestamp(self) -> tuple[int, int]:
        return 1, int(self.at * 1000)

    def leader_epoch(self) -> int:
        return 0

    def ticket(self, *, restarted: bool) -> Ticket | None:
        """The record's ticket, by the rules of :func:`kafka_exec.core.message.envelope.ticket_of`."""
        task = self.task
        if not (task.key or task.unique or self.sent_by is not None or restarted):
            return None
        return Ticket(self.lane, self.run, bool(task.unique), self.sent_by, "t")

    def __repr__(self) -> str:
        kind = f" key={self.task.key}" * bool(self.task.key) + f" unique={self.task.unique}" * bool(self.task.unique)
        again = f" retry {self.run.retries} of {self.sent_by}" if self.run.retries else ""
        return f"{self.place.topic}/{self.place.partition}/{self.place.offset} {self.task.name}{kind}{again}"


@dataclass
class Log:
    """A partition. Offsets at which nothing is are those of transactions' markers, and what was deleted."""

    start: int = 0
    end: int = 0
    found: dict[int, Any] = field(default_factory=dict)

    def append(self, value: Any) -> int:
        self.found[self.end] = value
        self.end += 1
        return self.end - 1

    def trim(self, before: int) -> None:
        for offset in range(self.start, min(before, self.end)):
            self.found.pop(offset, None)
        self.start = max(self.start, min(before, self.end))


class Topic:
    """A queue's topic. Another one of the same name has another id."""

    def __init__(self, number: int, partitions: int) -> None:
        self.id = f"q{number}"
        self.partitions = [Log() for _ in range(partitions)]

    def send(self, partition: int, task: Task, at: float, retries: int = 0, sent_by: int | None = None) -> Record:
        log = self.partitions[partition]
        record = Record(Place(self.id, partition, log.end), task, retries, sent_by, at)
        log.append(record)
        return record


class Said(NamedTuple):
    """A record in the log of heartbeats, with its log time."""

    at: float
    said: Heartbeat | Sequence[Grant]


class Group:
    """The consumer group of the queue: it has members, gives them partitions, and keeps their commits."""

    def __init__(self, partitions: int, rng: random.Random) -> None:
        self.commits: dict[int, tuple[int, str]] = {}
        self._rng = rng
        self._heard: dict[str, float] = {}
        # Who has each partition, and who is to have it.
        self._has: dict[int, str | None] = dict.fromkeys(range(partitions))
        self._wanted: dict[int, str | None] = dict.fromkeys(range(partitions))

    @property
    def is_empty(self) -> bool:
        return not self._heard

    def join(self, member: str, now: float) -> None:
        self._heard[member] = now
        self.rebalance()

    def hear(self, member: str, now: float) -> bool:
        """Takes a member's heartbeat. Returns False if it was given up."""
        if member not in self._heard:
            return False
        self._heard[member] = now
        return True

    def leave(self, member: str) -> None:
        """Drops a member, which says so, or was silent: others may have its partitions at once."""
        if self._heard.pop(member, None) is not None:
            for partition, owner in self._has.items():
                if owner == member:
                    self._has[partition] = None
            self.rebalance()

    def expire(self, now: float) -> list[str]:
        """Drops the members that were silent for a session."""
        silent = [member for member, heard in self._heard.items() if now - heard > SESSION]
        for member in silent:
            self.leave(member)
        return silent

    def rebalance(self) -> None:
        """Chooses who is to have each partition."""
        members = sorted(self._heard)
        self._rng.shuffle(members)
        for partition in self._wanted:
            self._wanted[partition] = members[partition % len(members)] if members else None

    def to_give_up(self, member: str) -> list[int]:
        return [each for each, owner in self._has.items() if owner == member and self._wanted[each] != member]

    def give_up(self, member: str, partitions: Sequence[int]) -> None:
        for each in partitions:
            if self._has[each] == member:
                self._has[each] = None

    def take(self, member: str) -> list[int]:
        """Gives a member the free partitions that it is to have."""
        found = [each for each, owner in self._has.items() if owner is None and self._wanted[each] == member]
        for each in found:
            self._has[each] = member
        return found
