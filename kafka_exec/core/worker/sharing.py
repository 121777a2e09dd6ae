"""Which other worker runs a task of this one's partitions: one that has a slot free, or that knows the task at all."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from typing import Any, NamedTuple

from kafka_exec.core.nodes import liveness
from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.nodes.liveness import TrustWindow
from kafka_exec.core.record.fields import MOST_PARTITIONS, a_list, an_object, from_json, text, whole


class Grant(NamedTuple):
    """A task that its partition's owner gives to another incarnation to run.

    Attributes:
        to: the incarnation.
        topic, partition, offset: where the task's record is.
        attempts: how often it was begun before.
    """

    to: str
    topic: str
    partition: int
    offset: int
    attempts: int

    @staticmethod
    def encode(grants: Sequence[Grant]) -> bytes:
        """The value of a record in the log of heartbeats."""
        return json.dumps({"grants": grants}).encode()

    @staticmethod
    def decode(value: bytes | None) -> list[Grant]:
        """The grants of a record; none if it is something else."""
        try:
            return [_grant(each) for each in a_list(an_object(from_json(value))["grants"])]
        except (ValueError, KeyError):
            return []


def _grant(found: Any) -> Grant:
    to, topic, partition, offset, attempts = a_list(found)
    return Grant(text(to), text(topic), whole(partition, most=MOST_PARTITIONS), whole(offset), whole(attempts))


class Guests:
    """The tasks of another's partition that this incarnation was given, by their offsets.

    One that has not begun within a heartbeat must not begin any more: its owner may have ceased to wait, and begun it
    elsewhere. Times are seconds of a steady clock.

    Args:
        period: seconds between two heartbeats.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._accepted: dict[int, TrustWindow] = {}

    def __contains__(self, offset: int) -> bool:
        return offset in self._accepted

    def accept(self, offset: int, at: float) -> None:
        """Notes a grant that came at a time."""
        self._accepted[offset] = liveness.grant(self._period)
        self._accepted[offset].open(at)

    def forget(self, offset: int) -> bool:
        """Notes that a task has ended, or goes back. True: it was one of these."""
        return self._accepted.pop(offset, None) is not None

    def may_begin(self, offset: int, now: float) -> bool:
        """Whether a task may still begin."""
        window = self._accepted.get(offset)
        return window is not None and window.is_open(now)

    def named(self, running: Container[int], now: float) -> set[int]:
        """What the heartbeats are to name; for what they do not, the owner waits no more."""
        return {offset for offset in self._accepted if offset in running or self.may_begin(offset, now)}


class Fullness:
    """Since when a worker has had no slot free: a fold of what it sees every now and then."""

    def __init__(self) -> None:
        self._since: float | None = None

    def look(self, is_full: bool, now: float | None) -> float | None:
        """Since when all slots were taken, if they were when it was last seen too; log time, as ``now``.

        What others had free before was theirs to fill: one burst of tasks reaches all at once.
        """
        before, self._since = self._since, None
        if is_full:
            self._since = now if before is None else before
        return before if is_full else None


def idle_peers(peers: Sequence[Heartbeat], queue: str, waiting: int) -> list[str]:
    """Who may have a task each of so many that wait in a queue, by the free slots of who consumes it; the idlest first."""
    free = {peer.boot: peer.slots - peer.active for peer in peers if queue in peer.queues and peer.slots > peer.active}
    chosen: list[str] = []
    while len(chosen) < waiting and any(free.values()):
        for boot in sorted(free, key=lambda each: -free[each]):
            if free[boot] and len(chosen) < waiting:
                free[boot] -= 1
                chosen.append(boot)
    return chosen


def who_knows(peers: Sequence[Heartbeat], queue: str, task: str) -> str | None:
    """The one of those that consume a queue and know a task that has the most free slots; None if there is none."""
    able = [peer for peer in peers if queue in peer.queues and task in (peer.tasks or ())]
    return max(able, key=lambda peer: (peer.slots - peer.active, peer.boot)).boot if able else None


def is_given_up(since: float, now: float, timeout: float) -> bool:
    """Whether a task that nobody knows has waited for long enough; all in seconds."""
    return now - since > timeout
